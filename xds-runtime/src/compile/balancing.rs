//! What clusters ask for beside their policy, in the numbers of the image.

use crate::image;
use crate::resource::{Balancing, SlowStart};

/// The settings of a cluster, but for those that depend on others.
pub(super) fn balancing(settings: &Balancing) -> image::Balancing {
    image::Balancing {
        slow_start: settings.slow_start.as_ref().map(slow_start),
        full_scan: settings.full_scan,
        hash_balance_factor: settings.hash_balance_factor,
        ..image::Balancing::default()
    }
}

fn slow_start(settings: &SlowStart) -> image::SlowStart {
    let window_ms = u32::try_from(settings.window.as_millis()).unwrap_or(u32::MAX);
    // A float is cut to the bounds of its target.
    let aggression_thousandths = ((settings.aggression * 1000.0).round() as u32).max(1);
    image::SlowStart {
        window_ms,
        aggression_thousandths,
        min_weight: (settings.min_weight_percent * 100.0).round() as u32,
    }
}
