//! The identity of this boot of the machine: a file left by another one is never believed.

use crate::shm::Descriptor;

/// `/proc/sys/kernel/random/boot_id`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BootId([u64; 2]);

impl BootId {
    /// Reads it; `None` where /proc is not mounted or not readable (then nothing is shared and everything passes).
    pub fn read() -> Option<Self> {
        use rustix::fs::{Mode, OFlags, open};
        let path = "/proc/sys/kernel/random/boot_id";
        let file = Descriptor::from(open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?);
        let mut text = [0_u8; 64];
        let length = rustix::io::read(&file, &mut text).ok()?;
        Self::parse(text.get(..length)?)
    }

    /// Parses the 36-byte form.
    fn parse(text: &[u8]) -> Option<Self> {
        let mut digits = 0;
        let mut bits = 0_u128;
        for byte in text.iter().filter(|byte| **byte != b'-' && **byte != b'\n') {
            bits = (bits << 4) | u128::from(char::from(*byte).to_digit(16)?);
            digits += 1;
        }
        (digits == 32).then_some(Self([(bits >> 64) as u64, bits as u64]))
    }

    /// As two words.
    pub const fn words(self) -> [u64; 2] {
        self.0
    }

    /// From two words (tests, and files).
    pub const fn from_words(words: [u64; 2]) -> Self {
        Self(words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boot_id_is_thirty_two_digits() {
        assert_eq!(BootId::parse(b"00000000-0000-0001-0000-000000000002\n"), Some(BootId::from_words([1, 2])));
        assert_eq!(BootId::parse(b"00000000-0000-0001\n"), None);
        assert_eq!(BootId::parse(b"zz000000-0000-0001-0000-000000000002"), None);
    }
}
