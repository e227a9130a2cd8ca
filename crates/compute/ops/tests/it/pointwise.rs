//! Biases, the ends of residual blocks, and rows brought elsewhere.

use anyhow::{Result, ensure};
use ops::{NO_ROW, RowMap, add_bias, add_leaky_relu, rearrange_rows};

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
fn a_bias_matches_differences() -> Result<()> {
    for dims in [&[1usize][..], &[3, 1], &[2, 3, 5], &[7, 33]] {
        check(&format!("{dims:?}"), &[random(1, dims), random(2, &[dims[dims.len() - 1]])], |t| add_bias(&t[0], &t[1]))?;
    }
    check("strided", &[random(1, &[6, 5]), random(2, &[6])], |t| add_bias(&t[0].t()?, &t[1]))?;
    check_precisions("many tasks", &[random(1, &[5000, 48]), random(2, &[48])], |t| add_bias(&t[0], &t[1]))?;
    ensure!(add_bias(&random(1, &[3, 4]), &random(1, &[3])).is_err());
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
