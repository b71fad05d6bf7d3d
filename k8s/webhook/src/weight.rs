//! How much memory the answer to a review takes, told from its text: a value of two bytes takes hundreds once it is
//! parsed. `k8s/webhook/tests/memory.rs` compares it with what is taken.

/// A map's node has room for eleven entries, and there are three of each: in the pod, in the pod as one of the mesh, and
/// in the patch.
const OBJECT: usize = 3 * 704;
/// A value's place in a list that grows, or in a map, with its key and its text.
const VALUE: usize = 3 * 192;
/// Texts, in both pods and in the answer.
const BYTE: usize = 3;

/// Bytes that parsing a review and answering it take at most, beside its text and what comes into its containers.
pub fn weight(json: &[u8]) -> usize {
    let mut weight = json.len().saturating_mul(BYTE);
    let mut bytes = json.iter();
    while let Some(byte) = bytes.next() {
        weight = weight.saturating_add(match byte {
            // An empty one has no node.
            b'{' if bytes.as_slice().first() != Some(&b'}') => OBJECT,
            b'{' | b'[' | b',' => VALUE,
            b'"' => {
                pass_text(&mut bytes);
                0
            }
            _ => 0,
        });
    }
    weight
}

fn pass_text(bytes: &mut std::slice::Iter<'_, u8>) {
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => return,
            b'\\' => {
                let _ = bytes.next();
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_like_values_in_a_text_is_none() {
        let texts = [r#""{,[""#, r#""\"{,""#, r#""\\\"[,""#, r#""\\""#, r#""{"#, r#""\"#];
        for text in texts {
            assert_eq!(weight(text.as_bytes()), BYTE * text.len(), "{text}");
        }
        assert_eq!(weight(br#"{"\\":"\\",}"#), OBJECT + VALUE + BYTE * 12);
        assert_eq!(weight(b"[{}]"), 2 * VALUE + BYTE * 4);
    }
}
