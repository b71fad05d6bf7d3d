//! What the answer to a review takes at most, whatever is in it: what `weight` says of it, which the webhook takes room
//! for before it parses anything.
#![allow(clippy::unwrap_used)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use injector::Settings;
use webhook::{answer, weight};

thread_local! {
    /// Bytes that the calling thread has, and the most that it had.
    static HAS: Cell<(usize, usize)> = const { Cell::new((0, 0)) };
}

/// Counts what glibc takes for the calling thread's allocations.
struct Counting;

/// Each piece has a word before it, and is a multiple of 16 bytes.
fn piece(layout: Layout) -> usize {
    (layout.size() + 8).next_multiple_of(16).max(32)
}

// SAFETY: everything is the system allocator's; the counter is a plain thread-local that allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let (has, most) = HAS.get();
        let has = has + piece(layout);
        HAS.set((has, most.max(has)));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        let (has, most) = HAS.get();
        HAS.set((has.saturating_sub(piece(layout)), most));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A quarter of what the webhook takes: it goes up in proportion.
const LARGEST: usize = 1 << 20;

/// What comes into the containers of a pod, if there are as many as there may be.
const ADDED: usize = 12 << 20;
const CONTAINERS: usize = 128;

/// A review of a pod with so much of `element` as has room; `N` in it is a number of its own.
fn review(before: &str, element: &str, after: &str) -> String {
    review_of(before, element, after, usize::MAX)
}

fn few(before: &str, element: &str, after: &str) -> String {
    review_of(before, element, after, CONTAINERS)
}

fn review_of(before: &str, element: &str, after: &str, times: usize) -> String {
    let head = r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u","operation":"CREATE",
                  "namespace":"n","kind":{"group":"","version":"v1","kind":"Pod"},"object":"#;
    let mut text = format!("{head}{before}");
    let most = LARGEST - after.len() - 32;
    for number in 0..times {
        let next = element.replace('N', &format!("{number:x}"));
        if text.len() + next.len() > most {
            break;
        }
        text.push_str(&next);
        text.push(',');
    }
    text.pop();
    text + after + "}}"
}

#[test]
fn no_review_takes_more_than_its_weight() {
    let labels = r#""metadata":{"labels":{"ldmesh.io/inject":"true"}}"#;
    let containers = r#""containers":[{"name":"a"}]"#;
    let spec = format!(r#"{{{labels},"spec":{{{containers},"x":"#);
    let init = format!(r#"{{{labels},"spec":{{{containers},"initContainers":["#);
    let env = format!(r#"{{{labels},"spec":{{"containers":[{{"name":"a","env":["#);
    let annotated = |element: &str| {
        let before = r#"{"metadata":{"labels":{"ldmesh.io/inject":"true"},"annotations":{"#;
        review(before, element, &format!(r#"}}}},"spec":{{{containers}}}}}"#))
    };
    // The installation comes before both, so that each variable changes.
    let some: Vec<_> =
        (0..LARGEST / 64).map(|number| format!(r#"{{"name":"x{number}","value":"{number}"}}"#)).collect();
    let moving = format!(r#"{init}{{"name":"a","env":[{}]}},{{"name":"b","env":["#, some.join(","));
    let list = |element: &str| review(&format!("{spec}["), element, "]}}");
    let map = |element: &str| review(&format!("{spec}{{"), element, "}}}");
    for (what, text) in [
        ("numbers", list("0")),
        ("texts", list("\"\"")),
        ("lists", list("[]")),
        ("lists of one", list("[0]")),
        ("objects", list("{}")),
        ("objects of one", list("{\"\":0}")),
        ("objects of seven", list(r#"{"a":0,"b":0,"c":0,"d":0,"e":0,"f":0,"g":0}"#)),
        ("objects of twelve", list(r#"{"a":0,"b":0,"c":0,"d":0,"e":0,"f":0,"g":0,"h":0,"i":0,"j":0,"k":0,"l":0}"#)),
        ("deep objects", list(&format!("{}0{}", "{\"\":".repeat(100), "}".repeat(100)))),
        ("deep lists", list(&format!("{}0{}", "[".repeat(100), "]".repeat(100)))),
        ("keys", map(r#""N":0"#)),
        ("keys and texts", map(r#""N":"a""#)),
        ("the same key", map(r#""":0"#)),
        ("keys and objects", map(r#""N":{"":""}"#)),
        ("containers", few(&format!(r#"{{{labels},"spec":{{"containers":["#), r#"{"name":"N"}"#, "]}}")),
        ("init containers", few(&init, r#"{"name":"N"}"#, "]}}")),
        ("variables that move", review(&moving, r#"{"name":"N"}"#, "]}]}}")),
        ("variables with values that move", review(&moving, r#"{"name":"N","value":"N"}"#, "]}]}}")),
        ("variables", review(&env, r#"{"name":"N"}"#, "]}]}}")),
        ("annotations", annotated(r#""N":"""#)),
        ("annotations of ours", annotated(r#""ldmesh.io/N":"""#)),
        ("annotations that need escapes", annotated("\"ldmesh.io/N\":\"\u{7f}\u{7f}\u{7f}\u{7f}\"")),
        ("one text", list(&format!("\"{}\"", "x".repeat(LARGEST - 400)))),
        ("one name that needs escapes", {
            let name = "\u{7f}".repeat(LARGEST - 400);
            review(&format!(r#"{{"metadata":{{"name":"{name}"}},"x":["#), "0", "]}")
        }),
        ("one container that needs escapes", {
            let name = "\u{7f}".repeat(LARGEST - 400);
            review(&format!(r#"{{{labels},"spec":{{"containers":[{{"name":"{name}"}}],"x":["#), "0", "]}}")
        }),
    ] {
        let (before, _) = HAS.get();
        HAS.set((before, before));
        let answered = answer(text.as_bytes(), false, &Settings::default());
        let (_, most) = HAS.get();
        let (took, weight) = (most - before, weight(text.as_bytes()));
        let size = answered.as_ref().map(|answer| answer.body.len()).unwrap_or_default();
        println!(
            "{what}: {} KiB of text, {} KiB taken, {} weighed, {} of answer",
            text.len() >> 10,
            took >> 10,
            weight >> 10,
            size >> 10
        );
        assert!(answered.is_ok(), "{what}: {answered:?}");
        assert!(took <= weight + ADDED, "{what}: {took} bytes, and {weight} weighed");
    }
}
