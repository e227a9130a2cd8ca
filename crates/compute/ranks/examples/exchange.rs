//! How long ranks take to exchange gradients: `mpirun -n 2 exchange VALUES`, with the number of a network's parameters.
//! It prints the milliseconds of a round, in which each rank gets its slice of every gradient, and of the end of a step, when all
//! get the sums of all slices; the least of 20.

use std::time::Instant;

use ranks::RankError;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let values: usize = std::env::args().nth(1).ok_or("give the number of values")?.parse()?;
    let ranks = ranks::join()?;
    let gradient = vec![1_f32; values];
    let bounds: Vec<usize> = (0..=ranks.size()).map(|rank| values * rank / ranks.size()).collect();
    let slices: Vec<&[f32]> = bounds.windows(2).map(|ends| &gradient[ends[0]..ends[1]]).collect();
    let round = least(|| ranks.exchange(&slices).map(drop))?;
    let end = least(|| ranks.gather(slices[ranks.rank()]).map(drop))?;
    if ranks.is_first() {
        eprintln!("{} ranks, {values} values: a round {round:.1} ms, the end of a step {end:.1} ms", ranks.size());
    }
    Ok(())
}

/// Milliseconds.
fn least(work: impl Fn() -> Result<(), RankError>) -> Result<f64, RankError> {
    let mut least = f64::INFINITY;
    for _ in 0..20 {
        let begun = Instant::now();
        work()?;
        least = least.min(begun.elapsed().as_secs_f64() * 1e3);
    }
    Ok(least)
}
