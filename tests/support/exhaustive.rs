//! How much of a repetition a run does: the default suite takes a sample, the exhaustive suite does everything in parts.
//!
//! `cargo xtask test --exhaustive --slice 2/8` sets `BELLWETHER_EXHAUSTIVE=2/8`.

/// Which part of all cases a run takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// A few of every kind.
    Sample,
    /// Of all cases those whose number leaves `part` when divided by `of`.
    Slice { part: usize, of: usize },
}

impl Extent {
    /// The extent of this run.
    pub(crate) fn of_this_run() -> Self {
        let variable = std::env::var("BELLWETHER_EXHAUSTIVE");
        variable.map_or(Self::Sample, |text| Self::parse(&text))
    }

    fn parse(text: &str) -> Self {
        let (part, of) = text.split_once('/').unwrap();
        let (part, of): (usize, usize) = (part.parse().unwrap(), of.parse().unwrap());
        assert!((1..=of).contains(&part), "{text} is no slice");
        Self::Slice { part: part - 1, of }
    }

    /// Those of the cases that this run takes: of a sample every `one_in`-th.
    pub(crate) fn choose<T>(self, cases: Vec<T>, one_in: usize) -> Vec<T> {
        let numbered = cases.into_iter().enumerate();
        let chosen = numbered.filter(|(number, _)| match self {
            Self::Sample => number % one_in == 0,
            Self::Slice { part, of } => number % of == part,
        });
        chosen.map(|(_, case)| case).collect()
    }

    /// How often something is repeated that has no parts.
    pub(crate) fn amount(self, sample: usize, full: usize) -> usize {
        match self {
            Self::Sample => sample,
            Self::Slice { .. } => full,
        }
    }

    /// A number that differs between the slices, for tests with random moments.
    pub(crate) fn seed(self) -> u64 {
        match self {
            Self::Sample => 0,
            Self::Slice { part, .. } => u64::try_from(part).unwrap() + 1,
        }
    }
}

#[test]
fn all_slices_together_are_all_cases_and_each_case_is_in_one() {
    let all: Vec<usize> = (0..101).collect();
    let mut chosen = Vec::new();
    for part in 1..=8 {
        let slice = Extent::parse(&format!("{part}/8"));
        chosen.extend(slice.choose(all.clone(), 7));
    }
    chosen.sort_unstable();
    assert_eq!(chosen, all);
    let sample = Extent::Sample.choose(all, 50);
    assert_eq!(sample, [0, 50, 100]);
}
