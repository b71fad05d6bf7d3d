//! Collecting the outcome of one response, and what a NACK says.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::wire::Status;

/// gRPC's INVALID_ARGUMENT.
const INVALID_ARGUMENT: i32 = 3;
/// Room for reasons; beyond it only names follow.
const REASONS_MOST: usize = 16 << 10;
/// Room for the whole text: istiod receives at most 4 MiB a message.
const TEXT_MOST: usize = 256 << 10;

/// The bad resources of one response.
#[derive(Debug, Default)]
pub(super) struct Complaints {
    text: String,
    count: usize,
    unnamed: usize,
    unlisted: usize,
    /// Digests of the good resources so far, by name.
    good: BTreeMap<String, u128>,
}

impl Complaints {
    /// A resource with a name (empty: the type's only one).
    pub(super) fn rejected(&mut self, name: &str, reason: &str) {
        self.count = self.count.saturating_add(1);
        let name = if name.is_empty() { "(unnamed)" } else { name };
        if self.text.len() < REASONS_MOST {
            self.add(&format!("{name}: {reason}"));
        } else if self.text.len() < TEXT_MOST {
            self.add(name);
        } else {
            self.unlisted = self.unlisted.saturating_add(1);
        }
    }

    /// Bytes without a name: absence proves nothing in this response.
    pub(super) fn undecodable(&mut self, reason: &str) {
        self.unnamed = self.unnamed.saturating_add(1);
        self.rejected("", reason);
    }

    /// Notes a good resource; false when the response has another one of that name with other content.
    pub(super) fn is_the_only(&mut self, name: &str, digest: u128) -> bool {
        match self.good.entry(name.to_owned()) {
            Entry::Occupied(first) => *first.get() == digest,
            Entry::Vacant(entry) => {
                entry.insert(digest);
                true
            }
        }
    }

    fn add(&mut self, entry: &str) {
        if !self.text.is_empty() {
            self.text.push_str("; ");
        }
        self.text.push_str(entry);
    }

    /// True when every resource could be told by name.
    pub(super) fn absence_proves_removal(&self) -> bool {
        self.unnamed == 0
    }

    /// The NACK's detail; `None` = ACK.
    pub(super) fn into_status(self) -> Option<Status> {
        if self.count == 0 {
            return None;
        }
        let more = match self.unlisted {
            0 => String::new(),
            n => format!("; and {n} more"),
        };
        let message = format!("{} rejected: {}{more}", self.count, self.text);
        Some(Status { code: INVALID_ARGUMENT, message })
    }
}
