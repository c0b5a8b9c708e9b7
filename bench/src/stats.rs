//! Medians and pairwise ratios.

/// The median; of an even number the mean of the middle two.
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

/// The median of `a / b`, round by round: what drifts over a session falls out of it.
pub fn pairwise(a: &[(usize, f64)], b: &[(usize, f64)]) -> Option<f64> {
    let ratios: Vec<f64> = a
        .iter()
        .filter_map(|(round, value)| {
            let (_, other) = b.iter().find(|(other, _)| other == round)?;
            (*other > 0.0).then(|| value / other)
        })
        .collect();
    median(&ratios)
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
    fn ratios_are_taken_within_a_round() {
        let a = [(0, 2.0), (1, 30.0), (2, 4.0)];
        let b = [(0, 1.0), (1, 10.0), (3, 1.0)];
        assert_eq!(pairwise(&a, &b), Some(2.5));
        assert_eq!(pairwise(&a, &[]), None);
        assert_eq!(pairwise(&[(0, 1.0)], &[(0, 0.0)]), None);
    }
}
