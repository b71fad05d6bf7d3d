//! Why a resource is rejected.

/// A broken rule, with the path of the field that breaks it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {why}")]
pub struct Invalid {
    /// Path from the resource's root, e.g. `filter_chains[0].filters[1].cluster`.
    pub field: String,
    /// The rule, in words.
    pub why: String,
}

impl Invalid {
    /// `field` breaks a rule.
    pub(super) fn new(field: impl Into<String>, why: impl Into<String>) -> Self {
        Self { field: field.into(), why: why.into() }
    }

    /// A required field is not there.
    pub(super) fn missing(field: impl Into<String>) -> Self {
        Self::new(field, "required and missing")
    }

    /// The same, seen from one level higher.
    fn under(mut self, parent: impl std::fmt::Display) -> Self {
        self.field = format!("{parent}.{}", self.field);
        self
    }
}

/// Adds the parent's name to the path of an error.
pub(super) trait Under<T> {
    /// Within field `parent`.
    fn under(self, parent: &str) -> Result<T, Invalid>;
    /// Within element `index` of the repeated field `parent`.
    fn under_at(self, parent: &str, index: usize) -> Result<T, Invalid>;
}

impl<T> Under<T> for Result<T, Invalid> {
    fn under(self, parent: &str) -> Self {
        self.map_err(|e| e.under(parent))
    }

    fn under_at(self, parent: &str, index: usize) -> Self {
        self.map_err(|e| e.under(format_args!("{parent}[{index}]")))
    }
}
