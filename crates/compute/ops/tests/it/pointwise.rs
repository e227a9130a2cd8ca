//! Linear layers, the ends of residual blocks, and rows brought elsewhere.

use anyhow::{Result, ensure};
use ops::{NO_ROW, RowMap, add_leaky_relu, linear, rearrange_rows};

use crate::support::{check, check_precisions, random, values};

#[test]
fn a_residual_end_matches_differences() -> Result<()> {
    for dims in [&[1usize][..], &[2, 3, 5], &[1, 4, 3, 2, 7]] {
        check(&format!("{dims:?}"), &[random(1, dims), random(2, dims)], |t| add_leaky_relu(&t[0], &t[1], 0.01))?;
    }
    check("strided, reused", &[random(1, &[6, 5]), random(2, &[5, 6])], |t| {
        let y = add_leaky_relu(&t[0].t()?, &t[1], 0.2)?;
        add_leaky_relu(&y, &y, 0.2)? + t[0].t()?
    })?;
    check_precisions("many tasks", &[random(1, &[70_001]), random(2, &[70_001])], |t| add_leaky_relu(&t[0], &t[1], 0.1))?;
    ensure!(add_leaky_relu(&random(1, &[3]), &random(1, &[4]), 0.1).is_err());
    ensure!(add_leaky_relu(&random(1, &[3]), &random(1, &[3]), 0.0).is_err());
    Ok(())
}

#[test]
fn a_linear_layer_matches_differences() -> Result<()> {
    // Panels and tiles that are full, and ones that are not.
    for (dims, outputs) in [(&[1usize, 1][..], 1), (&[3, 1], 5), (&[2, 3, 5], 16), (&[7, 33], 49), (&[70, 6], 100)] {
        let weight = random(2, &[outputs, dims[dims.len() - 1]]);
        check(&format!("{dims:?}"), &[random(1, dims), weight.clone(), random(3, &[outputs])], |t| linear(&t[0], &t[1], Some(&t[2])))?;
        check(&format!("{dims:?} without a bias"), &[random(1, dims), weight], |t| linear(&t[0], &t[1], None))?;
    }
    check("strided", &[random(1, &[6, 5]), random(2, &[6, 3]), random(3, &[3])], |t| linear(&t[0].t()?, &t[1].t()?, Some(&t[2])))?;
    check_precisions("many tasks", &[random(1, &[5000, 48]), random(2, &[20, 48]), random(3, &[20])], |t| {
        linear(&t[0], &t[1], Some(&t[2]))
    })?;
    ensure!(linear(&random(1, &[3, 4]), &random(1, &[3, 5]), None).is_err());
    ensure!(linear(&random(1, &[3, 4]), &random(1, &[3, 4]), Some(&random(1, &[4]))).is_err());
    Ok(())
}

#[test]
fn rows_go_where_the_map_says_and_their_gradients_back() -> Result<()> {
    let map = RowMap::new(vec![3, NO_ROW, 0, 2], 5)?;
    let x = random(1, &[5, 3]);
    let rows = x.to_vec2::<f64>()?;
    let moved = [rows[3].clone(), vec![0.0; 3], rows[0].clone(), rows[2].clone()].concat();
    for dtype in [candle_core::DType::F64, candle_core::DType::F32] {
        ensure!(values(&rearrange_rows(&x.to_dtype(dtype)?, &map)?)? == moved);
    }
    let there_and_back = values(&rearrange_rows(&rearrange_rows(&x, &map)?, &map.inverse())?)?;
    let kept = |row: usize| if [0, 2, 3].contains(&row) { rows[row].clone() } else { vec![0.0; 3] };
    ensure!(there_and_back == (0..5).flat_map(kept).collect::<Vec<_>>());
    check("map", &[x], |t| rearrange_rows(&t[0], &map))?;
    let reversed = RowMap::new((0..3000u32).rev().collect(), 3000)?;
    check_precisions("many tasks", &[random(2, &[3000, 17])], |t| rearrange_rows(&t[0], &reversed))?;
    ensure!(RowMap::new(vec![1, 1], 2).is_err() && RowMap::new(vec![2], 2).is_err());
    ensure!(rearrange_rows(&random(1, &[4, 3]), &map).is_err());
    Ok(())
}
