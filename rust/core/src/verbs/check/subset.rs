//! Which files of an archive are read in full: always the same ones of the same archive, and known without a list of all.

use xxhash_rust::xxh3::xxh3_64;

use crate::error::{Kind, Result};

/// Files fall into so many groups by their hash.
const GROUPS: usize = 1 << 16;

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Subset {
    All,
    Part { of: u64, number: u64 },
    Share(f64),
    Bytes(u64),
}

/// A subset of the files of one archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Chosen {
    All,
    Part {
        of: u64,
        number: u64,
    },
    /// Those whose hash is at most this.
    Until(u64),
}

/// Gives path and size of every file, in the same order each time.
pub(super) type Each<'a> = dyn Fn(&mut dyn FnMut(&str, u64) -> Result<()>) -> Result<()> + 'a;

impl Chosen {
    /// Whether the file with this place among all belongs to it.
    pub(super) fn has(self, place: u64, path: &str) -> bool {
        match self {
            Self::All => true,
            Self::Part { of, number } => place % of == number - 1,
            Self::Until(last) => hash_of(path) <= last,
        }
    }
}

fn hash_of(path: &str) -> u64 {
    xxh3_64(path.as_bytes())
}

fn group_of(hash: u64) -> usize {
    hash as usize >> (u64::BITS - GROUPS.trailing_zeros())
}

impl Subset {
    pub(super) fn parse(text: &str) -> Result<Self> {
        let bad = || {
            let message =
                format!("the subset {text:?} is none of 'all', 'n/m', 'x%' and a size such as '500M'");
            Kind::Plan(message)
        };
        let text = text.trim();
        if text == "all" {
            return Ok(Self::All);
        }
        if let Some((number, of)) = text.split_once('/') {
            let number = number.trim().parse().map_err(|_| bad())?;
            let of = of.trim().parse().map_err(|_| bad())?;
            return if (1..=of).contains(&number) {
                Ok(Self::Part { of, number })
            } else {
                Err(bad().into())
            };
        }
        if let Some(share) = text.strip_suffix('%') {
            let share: f64 = share.trim().parse().map_err(|_| bad())?;
            return if share > 0.0 && share <= 100.0 { Ok(Self::Share(share)) } else { Err(bad().into()) };
        }
        let digits = text.trim_end_matches(|character: char| !character.is_ascii_digit());
        let unit = text.strip_prefix(digits).unwrap_or_default();
        let shift = match unit {
            "" => 0,
            "K" | "k" => 10,
            "M" | "m" => 20,
            "G" | "g" => 30,
            "T" | "t" => 40,
            _ => return Err(bad().into()),
        };
        let bytes = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(1 << shift));
        bytes.filter(|&bytes| bytes > 0).map(Self::Bytes).ok_or_else(|| bad().into())
    }

    /// Parts go by the place of a file. Shares and sizes are the first files in the order of their hashes that come to as
    /// much, which two looks at all files tell: one at the groups, one at the group in which the last of them is.
    pub(super) fn of(self, each: &Each<'_>) -> Result<Chosen> {
        let weight = |bytes| if matches!(self, Self::Bytes(_)) { u128::from(bytes) } else { 1 };
        if let Self::Part { of, number } = self {
            return Ok(Chosen::Part { of, number });
        }
        if self == Self::All {
            return Ok(Chosen::All);
        }
        let mut groups = vec![0_u128; GROUPS];
        each(&mut |path, bytes| {
            groups[group_of(hash_of(path))] += weight(bytes);
            Ok(())
        })?;
        let wanted = match self {
            Self::Share(share) => (groups.iter().sum::<u128>() as f64 * share / 100.0).ceil() as u128,
            Self::Bytes(bytes) => u128::from(bytes),
            Self::All | Self::Part { .. } => 0,
        };
        let mut sum = 0;
        let last = groups.iter().position(|weight| {
            sum += weight;
            sum >= wanted
        });
        let Some(group) = last else { return Ok(Chosen::All) };
        sum -= groups[group];
        let mut hashes = Vec::new();
        each(&mut |path, bytes| {
            let hash = hash_of(path);
            if group_of(hash) == group {
                hashes.push((hash, weight(bytes)));
            }
            Ok(())
        })?;
        hashes.sort_unstable();
        let last = hashes.iter().find(|(_, weight)| {
            sum += weight;
            sum >= wanted
        });
        Ok(last.map_or(Chosen::All, |(hash, _)| Chosen::Until(*hash)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen_of(subset: &str, count: u64) -> Vec<String> {
        let files: Vec<_> = (0..count).map(|number| format!("tables/t/{number:06}.parquet")).collect();
        let each: &Each<'_> = &|take| files.iter().try_for_each(|file| take(file, 1 << 20));
        let chosen = Subset::parse(subset).expect("a subset").of(each).expect("chosen");
        (0..)
            .zip(files.clone())
            .filter(|(place, file)| chosen.has(*place, file))
            .map(|(_, file)| file)
            .collect()
    }

    fn chosen(subset: &str) -> Vec<String> {
        chosen_of(subset, 100)
    }

    #[test]
    fn all_parts_together_are_the_whole() {
        let mut all: Vec<_> = (1..=7).flat_map(|number| chosen(&format!("{number}/7"))).collect();
        all.sort();
        assert_eq!(all, chosen("all"));
    }

    #[test]
    fn a_share_and_a_size_choose_the_same_files_every_time() {
        assert_eq!(chosen("10%").len(), 10);
        assert_eq!(chosen("0.5%").len(), 1);
        assert_eq!(chosen("10M"), chosen("10%"));
        assert_eq!(chosen("1").len(), 1);
        assert_eq!(chosen("1T").len(), 100);
        assert_eq!(chosen("100%").len(), 100);
        assert_eq!(chosen_of("10%", 0).len(), 0);
        assert_eq!(chosen_of("3%", 200_000).len(), 6000);
    }

    #[test]
    fn what_is_no_subset_is_refused() {
        for text in
            ["", "0/2", "3/2", "1/0", "x", "0%", "101%", "nan%", "-5M", "5MB", "99999999999T", "0", "é"]
        {
            assert!(Subset::parse(text).is_err(), "{text}");
        }
    }
}
