//! Text in an arena: words padded with zeros, compared and copied without a reference into it.

use super::{Read, StrRef, Torn, View};
use crate::image::layout::Section;
use crate::shm::unpack;

impl View<'_> {
    /// Copies text into `buffer`; the part that fits (on a character boundary is the caller's care).
    pub fn text<'b>(&self, text: StrRef, buffer: &'b mut [u8]) -> Read<&'b [u8]> {
        let (first, length) = unpack(text.0);
        let strings = self.section(Section::Strings)?;
        let strings = self.words.slice(strings.first as usize, strings.count as usize).ok_or(Torn)?;
        let length = (length as usize).min(buffer.len());
        let out = buffer.get_mut(..length).ok_or(Torn)?;
        for (nth, chunk) in out.chunks_mut(8).enumerate() {
            let word = strings.load((first as usize).checked_add(nth).ok_or(Torn)?).ok_or(Torn)?;
            for (to, from) in chunk.iter_mut().zip(word.to_le_bytes()) {
                *to = from;
            }
        }
        Ok(out)
    }

    /// Text as a `String`, for listings; not for the hook side.
    pub fn string(&self, text: StrRef) -> Read<String> {
        let length = unpack(text.0).1 as usize;
        if length > self.words.len().saturating_mul(8) {
            return Err(Torn);
        }
        let mut buffer = vec![0; length];
        self.text(text, &mut buffer)?;
        String::from_utf8(buffer).map_err(|_| Torn)
    }

    /// Compares text with bytes, a word at a time.
    pub(super) fn text_is(&self, text: StrRef, bytes: &[u8]) -> Read<bool> {
        let (first, length) = unpack(text.0);
        if length as usize != bytes.len() {
            return Ok(false);
        }
        let strings = self.section(Section::Strings)?;
        let at = (strings.first as usize).checked_add(first as usize).ok_or(Torn)?;
        let words = self.words.slice(at, bytes.len().div_ceil(8)).ok_or(Torn)?;
        for (nth, chunk) in bytes.chunks(8).enumerate() {
            let mut word = [0_u8; 8];
            for (to, from) in word.iter_mut().zip(chunk) {
                *to = *from;
            }
            if words.load(nth).ok_or(Torn)? != u64::from_le_bytes(word) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
