//! Who wrote a row that differs: production or somebody in the copy.
//!
//! Of a stretch only the sum of its rows is kept. But what differs now is known row by row on both sides, and what the
//! base held of each is, unless both sides wrote it, one of the two: the choice that adds up to the sum is the one. A sum of
//! 128 bits is hit by no other.

use std::collections::HashMap;

/// A key that differs: the hashes of its row in production and in the copy, where it is there.
pub(super) type Sides = (Option<u128>, Option<u128>);

/// Keys that are told apart: half of them are tried in all combinations.
const MOST: usize = 32;

/// For each key whether somebody in the copy wrote it. Nothing if that cannot be told: then it may be any of them.
///
/// `base` is the sum of the base's rows minus that of the rows that are equal on both sides.
pub(super) fn written(keys: &[Sides], base_rows: u64, base_sum: u128) -> Option<Vec<bool>> {
    if keys.len() > MOST {
        return None;
    }
    let half = keys.len() / 2;
    let (left, right) = keys.split_at(half);
    let of = |some: &[Sides], chosen: u32| {
        some.iter().enumerate().fold((0_u64, 0_u128), |(rows, sum), (index, (production, copy))| {
            // Chosen: the base had what production has, so the copy was written.
            let had = if chosen >> index & 1 == 1 { production } else { copy };
            (rows + u64::from(had.is_some()), sum.wrapping_add(had.unwrap_or_default()))
        })
    };
    let mut sums: HashMap<(u64, u128), u32> = HashMap::new();
    for chosen in 0..1_u32 << left.len() {
        sums.entry(of(left, chosen)).or_insert(chosen);
    }
    for chosen in 0..1_u32 << right.len() {
        let (rows, sum) = of(right, chosen);
        let Some(rows) = base_rows.checked_sub(rows) else { continue };
        if let Some(&first) = sums.get(&(rows, base_sum.wrapping_sub(sum))) {
            let bits = (0..left.len()).map(|index| first >> index & 1 == 1);
            return Some(bits.chain((0..right.len()).map(|index| chosen >> index & 1 == 1)).collect());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use xxhash_rust::xxh3::xxh3_128;

    fn hash(number: u64) -> u128 {
        xxh3_128(&number.to_le_bytes())
    }

    #[test]
    fn the_rows_that_the_copy_was_written_to_are_told_apart_from_those_of_production() {
        // Production inserted 1, updated 2, deleted 3; the copy inserted 4, updated 5, deleted 6.
        let keys: Vec<Sides> = vec![
            (Some(hash(1)), None),
            (Some(hash(2)), Some(hash(20))),
            (None, Some(hash(3))),
            (None, Some(hash(4))),
            (Some(hash(5)), Some(hash(50))),
            (Some(hash(6)), None),
        ];
        let base = [hash(20), hash(3), hash(5), hash(6)];
        let sum = base.iter().fold(0_u128, |sum, hash| sum.wrapping_add(*hash));
        assert_eq!(
            written(&keys, 4, sum).expect("one choice adds up"),
            [false, false, false, true, true, true]
        );
        assert!(written(&keys, 4, sum.wrapping_add(1)).is_none());
        assert!(written(&keys, 5, sum).is_none());
        assert!(written(&[], 0, 0).expect("nothing differs").is_empty());
    }

    #[test]
    fn a_row_that_both_wrote_cannot_be_told() {
        assert!(written(&[(Some(hash(1)), Some(hash(2)))], 1, hash(3)).is_none());
        assert!(written(&vec![(Some(hash(1)), None); 33], 0, 0).is_none());
    }
}
