//! Arbitrary YAML: read and rendered, or refused in one line.
#![no_main]

use control_plane::{Proxy, Snapshot};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    match Snapshot::from_yaml(text) {
        Ok(snapshot) => {
            let proxy = Proxy::default().in_locality("r", "z", "").with_auto_allocated_addresses();
            snapshot.resources(&proxy);
        }
        Err(error) => assert_eq!(error.to_string().lines().count(), 1),
    }
});
