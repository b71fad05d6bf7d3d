//! gRPC's bootstrap JSON: no input may panic, and an accepted address must be one we would accept ourselves.
#![no_main]

use libfuzzer_sys::fuzz_target;
use xds_runtime::config::{Bootstrap, ControlPlane};

fuzz_target!(|json: &[u8]| {
    if let Ok(bootstrap) = Bootstrap::parse(json) {
        let printed = bootstrap.control_plane.to_string();
        assert_eq!(printed.parse::<ControlPlane>().as_ref(), Ok(&bootstrap.control_plane), "{printed}");
        assert!(bootstrap.tls.client.is_none() || matches!(bootstrap.control_plane, ControlPlane::Https(_)));
    }
});
