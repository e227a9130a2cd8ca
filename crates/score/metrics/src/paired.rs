//! Two models on the same cases.

use serde::{Deserialize, Serialize};

use crate::Stat;

/// How the scores of one model differ from those of another, case by case.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Paired {
    /// The differences over the cases that both have a score for.
    pub difference: Stat,
    /// The chance of ranks at least as uneven if neither were better: Wilcoxon's signed-rank test, two-sided. Absent when no case
    /// differs.
    pub p: Option<f64>,
}

/// Above this many cases the normal approximation is used in place of counting.
const MOST_COUNTED: usize = 50;

impl Paired {
    /// The differences `a - b` of pairs.
    pub fn of(pairs: &[(f64, f64)]) -> Self {
        let differences: Vec<f64> = pairs.iter().map(|(a, b)| a - b).collect();
        Self { difference: Stat::of(&differences), p: wilcoxon(&differences) }
    }
}

/// Wilcoxon's signed-rank test of differences, of which zeros are left out. Without ties the chance is counted; with ties, or for
/// many cases, it is that of a normal distribution with the variance that ties leave, without correction for continuity.
fn wilcoxon(differences: &[f64]) -> Option<f64> {
    let mut sorted: Vec<f64> = differences.iter().copied().filter(|d| *d != 0.0 && d.is_finite()).collect();
    sorted.sort_by(|a, b| a.abs().total_cmp(&b.abs()));
    let n = sorted.len();
    if n == 0 {
        return None;
    }
    let (mut positive, mut tied) = (0.0, 0.0);
    let mut first = 0;
    for equal in sorted.chunk_by(|a, b| a.abs() == b.abs()) {
        let count = equal.len() as f64;
        let rank = first as f64 + (count + 1.0) / 2.0;
        positive += rank * equal.iter().filter(|d| **d > 0.0).count() as f64;
        tied += count.powi(3) - count;
        first += equal.len();
    }
    let all = (n * (n + 1)) as f64 / 2.0;
    let less = positive.min(all - positive);
    if tied == 0.0 && n <= MOST_COUNTED {
        return Some((2.0 * share_up_to(less as usize, n)).min(1.0));
    }
    let variance = (n * (n + 1) * (2 * n + 1)) as f64 / 24.0 - tied / 48.0;
    Some(normal_tails((less - all / 2.0) / variance.sqrt()))
}

/// The share of the subsets of the ranks 1 to n whose sum is at most `sum`.
fn share_up_to(sum: usize, n: usize) -> f64 {
    let mut subsets = vec![0.0_f64; n * (n + 1) / 2 + 1];
    subsets[0] = 1.0;
    for rank in 1..=n {
        for total in (rank..subsets.len()).rev() {
            subsets[total] += subsets[total - rank];
        }
    }
    subsets[..=sum].iter().sum::<f64>() / 2.0_f64.powi(n as i32)
}

/// The chance of a standard normal draw farther from 0 than `z`: the complementary error function of |z|/√2, as the continued
/// fraction where it converges and as the power series below.
fn normal_tails(z: f64) -> f64 {
    let x = z.abs() / std::f64::consts::SQRT_2;
    if x < 2.5 {
        let (mut term, mut sum, mut k) = (x, x, 0.0);
        while term.abs() > 1e-17 * sum.abs() {
            k += 1.0;
            term *= -x * x / k;
            sum += term / (2.0 * k + 1.0);
        }
        return 1.0 - sum * 2.0 / std::f64::consts::PI.sqrt();
    }
    let fraction = (1..60).rev().fold(x, |below, k| x + f64::from(k) / 2.0 / below);
    (-x * x).exp() / std::f64::consts::PI.sqrt() / fraction
}

#[cfg(test)]
mod tests {
    use super::*;

    /* The expected values, SciPy 1.17:
    from scipy.stats import wilcoxon
    wilcoxon([0.05, 0.02, -0.01, 0.11, 0.03, 0.07], method="exact")                  and so on
    wilcoxon([1, -1, 2, 2, 3, -4, 5, 0, 0, 6], zero_method="wilcox", method="asymptotic", correction=False)
    */
    #[test]
    fn chances_are_scipys() {
        let near = |found: Option<f64>, expected: f64| assert!((found.unwrap() - expected).abs() < 1e-9, "{found:?} {expected}");
        near(wilcoxon(&[0.05, 0.02, -0.01, 0.11, 0.03, 0.07]), 0.0625);
        near(wilcoxon(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), 0.03125);
        near(wilcoxon(&[1.0, -2.0, 3.0, -4.0]), 0.875);
        near(wilcoxon(&[1.0, -1.0, 2.0, 2.0, 3.0, -4.0, 5.0, 0.0, 0.0, 6.0]), 0.140_505_541_284_799_97);
        let many: Vec<f64> = (1..=60).map(|i| f64::from(i) * if i % 4 == 0 { -1.0 } else { 1.0 }).collect();
        near(wilcoxon(&many), 0.001_363_362_091_413_797_9);
        assert_eq!(wilcoxon(&[0.0, 0.0]), None);
        assert_eq!(wilcoxon(&[]), None);
    }

    #[test]
    fn swapping_the_models_turns_the_difference_and_keeps_the_chance() {
        let pairs = [(0.9, 0.8), (0.7, 0.75), (0.6, 0.4), (0.5, 0.5), (0.95, 0.7)];
        let swapped = pairs.map(|(a, b)| (b, a));
        let (there, back) = (Paired::of(&pairs), Paired::of(&swapped));
        assert_eq!(there.p, back.p);
        assert_eq!(there.difference.mean.map(|mean| -mean), back.difference.mean);
        assert_eq!(there.difference.sd, back.difference.sd);
    }
}
