//! A cluster's outlier detection.

use super::{ClusterView, Read, View};
use crate::image::layout::Section;
use crate::outlier::{SETTINGS_WORDS, Settings};
use crate::shm::load;

impl ClusterView {
    /// Whether it has outlier detection.
    #[inline]
    pub const fn detects_outliers(&self) -> bool {
        self.outlier != 0
    }
}

impl View<'_> {
    /// A cluster's outlier detection.
    pub fn outlier(&self, cluster: &ClusterView) -> Read<Option<Settings>> {
        let Some(index) = cluster.outlier.checked_sub(1) else { return Ok(None) };
        self.record::<SETTINGS_WORDS>(Section::Outliers, index)
            .map(|words| Some(Settings::of(words.each_ref().map(load))))
    }
}
