//! What was measured, round by round, as it is kept in `target/bench/PART.json`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// Named figures; the name ends with the unit: `p50_ns`, `private_kib`.
pub type Figures = BTreeMap<String, f64>;

/// One way of doing one piece of work, in one round.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Measurement {
    /// What was done, and where: `loopback/keep-alive`.
    pub work: String,
    /// What stood between client and server: `direct`, `ldmesh`, `Envoy, TCP`.
    pub way: String,
    /// Measurements of one round were made one after the other, and are compared with one another.
    pub round: u32,
    /// What was seen.
    pub figures: Figures,
}

/// All measurements of one part, in the order in which they were made.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Results {
    /// What they were made with: a name and a version each.
    pub versions: BTreeMap<String, String>,
    /// When, as `date --utc +%F` prints it.
    pub date: String,
    /// What was measured.
    pub measurements: Vec<Measurement>,
}

impl Results {
    /// Takes note of a measurement and says so.
    pub fn add(&mut self, work: &str, way: &str, round: u32, figures: Figures) {
        let figure = |name: &str| figures.get(name).map(|figure| format!(" {name}={figure:.0}"));
        let shown: String = ["p50_ns", "p99_ns"].iter().filter_map(|name| figure(name)).collect();
        eprintln!("{round:>3} {work}: {way}{shown}");
        self.measurements.push(Measurement { work: work.to_owned(), way: way.to_owned(), round, figures });
    }

    /// The ways in which a piece of work was done, in the order in which they came.
    pub fn ways(&self, work: &str) -> Vec<&str> {
        let mut ways = Vec::new();
        for one in self.measurements.iter().filter(|one| one.work == work) {
            if !ways.contains(&one.way.as_str()) {
                ways.push(&one.way);
            }
        }
        ways
    }

    /// The median of a figure over the rounds.
    pub fn median(&self, work: &str, way: &str, figure: &str) -> Option<f64> {
        median(self.of(work, way, figure).into_values().collect())
    }

    /// The median, over the rounds, of a figure's ratio to that of another way in the same round.
    pub fn ratio(&self, work: &str, way: &str, base: &str, figure: &str) -> Option<f64> {
        let base = self.of(work, base, figure);
        let pairs = self.of(work, way, figure);
        median(pairs.iter().filter_map(|(round, figure)| Some(figure / base.get(round)?)).collect())
    }

    fn of(&self, work: &str, way: &str, figure: &str) -> BTreeMap<u32, f64> {
        let ours = self.measurements.iter().filter(|one| one.work == work && one.way == way);
        ours.filter_map(|one| Some((one.round, *one.figures.get(figure)?))).collect()
    }

    /// Reads a part.
    pub fn read(folder: &Path, part: &str) -> Result<Self> {
        let path = path(folder, part);
        let text = fs::read_to_string(&path).with_context(|| format!("{}: run scripts/bench.sh", path.display()))?;
        serde_json::from_str(&text).with_context(|| path.display().to_string())
    }

    /// Writes a part in the place of the one before.
    pub fn write(&self, folder: &Path, part: &str) -> Result<()> {
        fs::create_dir_all(folder)?;
        let path = path(folder, part);
        fs::write(&path, serde_json::to_string_pretty(self)?).with_context(|| path.display().to_string())
    }
}

fn path(folder: &Path, part: &str) -> PathBuf {
    folder.join(part).with_extension("json")
}

fn median(mut figures: Vec<f64>) -> Option<f64> {
    figures.sort_by(f64::total_cmp);
    let middle = figures.len() / 2;
    let upper = *figures.get(middle)?;
    if figures.len().is_multiple_of(2) {
        Some((upper + figures.get(middle.checked_sub(1)?)?) / 2.0)
    } else {
        Some(upper)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_of_the_same_round() {
        let mut results = Results::default();
        // A machine that gets slower: the ratio of the medians would be 4 / 2.
        for (round, direct, other) in [(0, 1.0, 3.0), (1, 2.0, 4.0), (2, 4.0, 20.0), (3, 8.0, 24.0)] {
            results.add("work", "direct", round, [("p50_ns".to_owned(), direct)].into());
            results.add("work", "other", round, [("p50_ns".to_owned(), other)].into());
        }
        assert_eq!(results.ratio("work", "other", "direct", "p50_ns"), Some(3.0));
        assert_eq!(results.median("work", "direct", "p50_ns"), Some(3.0));
        assert_eq!(results.ways("work"), ["direct", "other"]);
        assert_eq!(results.median("work", "nobody", "p50_ns"), None);
    }
}
