//! The names of the files in a run directory.

use std::fmt::Write;

use crate::control::ImageId;

/// CONTROL.
pub const CONTROL: &str = "control";
/// CONTROL while it is made.
pub const CONTROL_NEW: &str = "control.new";
/// STATE.
pub const STATE: &str = "state";
/// Held while CONTROL is made.
pub const LOCK: &str = "lock";
/// What the leader says about itself, for `ldmesh status`.
pub const STATUS: &str = "status.json";
/// The beginning of every image file's name.
pub const IMAGE_PREFIX: &str = "image-";
/// The beginning of every journal's name.
pub const JOURNAL_PREFIX: &str = "accepted-";

/// A file name made on the stack.
pub struct FileName {
    bytes: [u8; 48],
    length: usize,
}

impl FileName {
    /// `image-<term>-<sequence>`.
    pub fn image(id: ImageId) -> Self {
        Self::format(format_args!("{IMAGE_PREFIX}{}-{}", id.term, id.sequence))
    }

    /// `accepted-<term>`.
    pub fn journal(term: u32) -> Self {
        Self::format(format_args!("{JOURNAL_PREFIX}{term}"))
    }

    fn format(text: std::fmt::Arguments<'_>) -> Self {
        let mut name = Self { bytes: [0; 48], length: 0 };
        // The longest name is 9 + 10 + 1 + 10 bytes.
        let _ = name.write_fmt(text);
        name
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        self.bytes.get(..self.length).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or("")
    }
}

impl Write for FileName {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let end = self.length.saturating_add(text.len());
        self.bytes.get_mut(self.length..end).ok_or(std::fmt::Error)?.copy_from_slice(text.as_bytes());
        self.length = end;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_name_fits() {
        let name = FileName::image(ImageId { term: u32::MAX, sequence: u32::MAX });
        assert_eq!(name.as_str(), "image-4294967295-4294967295");
    }
}
