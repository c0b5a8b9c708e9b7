//! Medians and pairwise ratios.

/// The median; for an even number of values the mean of the middle two.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        count if count % 2 == 1 => sorted.get(middle).copied(),
        _ => Some(f64::midpoint(*sorted.get(middle - 1)?, *sorted.get(middle)?)),
    }
}

/// The values of `a` and `b` in rounds with both.
fn pairs(a: &[(usize, f64)], b: &[(usize, f64)]) -> impl Iterator<Item = (f64, f64)> {
    a.iter().filter_map(|(round, value)| {
        let (_, other) = b.iter().find(|(other, _)| other == round)?;
        Some((*value, *other))
    })
}

/// The median of `a / b` per round, so that slow drifts of the machine cancel out.
pub fn pairwise(a: &[(usize, f64)], b: &[(usize, f64)]) -> Option<f64> {
    let ratios: Vec<f64> =
        pairs(a, b).filter(|(_, other)| *other > 0.0).map(|(value, other)| value / other).collect();
    median(&ratios)
}

/// In how many rounds `b` was less than `a`, and the number of rounds.
pub fn lost(a: &[(usize, f64)], b: &[(usize, f64)]) -> (u32, u32) {
    pairs(a, b).fold((0, 0), |(lost, rounds), (value, other)| (lost + u32::from(other < value), rounds + 1))
}

/// How many of `rounds` the slower tool may win before that is more than noise: of two equal tools, one wins more rounds than this in at
/// most 5 of 100 comparisons (the [sign test](https://en.wikipedia.org/wiki/Sign_test), one-sided). With fewer than five rounds, even
/// winning all is no proof.
pub fn noise(rounds: u32) -> u32 {
    let all = 2_f64.powi(i32::try_from(rounds).unwrap_or(i32::MAX));
    let (mut wins, mut ways, mut more_often) = (rounds, 1.0, 0.0);
    // From the rarest outcome down: `ways` is the number of outcomes with this many wins.
    while wins > 0 && (more_often + ways) / all <= 0.05 {
        more_often += ways;
        ways *= f64::from(wins) / f64::from(rounds - wins + 1);
        wins -= 1;
    }
    wins
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }

    #[test]
    fn ratios_are_computed_within_a_round() {
        let a = [(0, 2.0), (1, 30.0), (2, 4.0)];
        let b = [(0, 1.0), (1, 10.0), (3, 1.0)];
        assert_eq!(pairwise(&a, &b), Some(2.5));
        assert_eq!(pairwise(&a, &[]), None);
        assert_eq!(pairwise(&[(0, 1.0)], &[(0, 0.0)]), None);
    }

    #[test]
    fn each_round_is_compared_with_itself() {
        assert_eq!(lost(&[(0, 2.0), (1, 2.0), (2, 2.0)], &[(0, 1.0), (1, 3.0), (3, 1.0)]), (1, 2));
        assert_eq!(lost(&[], &[(0, 1.0)]), (0, 0));
    }

    #[test]
    fn differences_of_a_fair_coin_are_noise() {
        // 8 of 9 or more: 10 of 512; 7 or more: 46 of 512. 5 of 5: 1 of 32.
        assert_eq!([0, 1, 4, 5, 9, 20].map(noise), [0, 1, 4, 4, 7, 14]);
    }
}
