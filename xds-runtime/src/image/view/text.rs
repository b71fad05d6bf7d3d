//! Text in an arena: words padded with zeros, compared and copied without a reference into it.

use super::{Read, StrRef, Torn, View};
use crate::image::layout::Section;
use crate::shm::unpack;

impl View<'_> {
    /// Copies text into `buffer`; the part that fits (on a character boundary is the caller's care).
    pub fn text<'b>(&self, text: StrRef, buffer: &'b mut [u8]) -> Read<&'b [u8]> {
        let head = if text.head == 0 { 0 } else { self.piece(self.word(Section::Tables, text.head)?, buffer)? };
        let tail = self.piece(text.tail, buffer.get_mut(head..).ok_or(Torn)?)?;
        buffer.get(..head.checked_add(tail).ok_or(Torn)?).ok_or(Torn)
    }

    /// Copies one piece and returns its length.
    fn piece(&self, piece: u64, buffer: &mut [u8]) -> Read<usize> {
        let (first, length) = unpack(piece);
        let strings = self.section(Section::Strings)?;
        let strings = self.words.slice(strings.first as usize, strings.count as usize).ok_or(Torn)?;
        let length = (length as usize).min(buffer.len());
        let out = buffer.get_mut(..length).ok_or(Torn)?;
        let word = |nth| strings.load((first as usize).checked_add(nth).ok_or(Torn)?).ok_or(Torn);
        let (whole, rest) = out.as_chunks_mut();
        for (nth, chunk) in whole.iter_mut().enumerate() {
            *chunk = word(nth)?.to_le_bytes();
        }
        if !rest.is_empty() {
            rest.iter_mut().zip(word(whole.len())?.to_le_bytes()).for_each(|(to, from)| *to = from);
        }
        Ok(length)
    }

    /// Text as a `String`, for listings; not for the hook side.
    pub fn string(&self, text: StrRef) -> Read<String> {
        let head = if text.head == 0 { 0 } else { unpack(self.word(Section::Tables, text.head)?).1 as usize };
        let length = head.checked_add(unpack(text.tail).1 as usize).ok_or(Torn)?;
        if length > self.words.len().saturating_mul(8) {
            return Err(Torn);
        }
        let mut buffer = vec![0; length];
        let length = self.text(text, &mut buffer)?.len();
        buffer.truncate(length);
        String::from_utf8(buffer).map_err(|_| Torn)
    }

    /// Compares a piece of text with bytes, a word at a time.
    pub(super) fn text_is(&self, piece: u64, bytes: &[u8]) -> Read<bool> {
        let (first, length) = unpack(piece);
        if length as usize != bytes.len() {
            return Ok(false);
        }
        let strings = self.section(Section::Strings)?;
        let at = (strings.first as usize).checked_add(first as usize).ok_or(Torn)?;
        let words = self.words.slice(at, bytes.len().div_ceil(8)).ok_or(Torn)?;
        let (whole, rest) = bytes.as_chunks();
        for (nth, chunk) in whole.iter().enumerate() {
            if words.load(nth).ok_or(Torn)? != u64::from_le_bytes(*chunk) {
                return Ok(false);
            }
        }
        let last = rest.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
        Ok(rest.is_empty() || words.load(whole.len()).ok_or(Torn)? == last)
    }
}
