//! What decisions read: CONTROL, IMAGE and STATE of one pod, wherever they come from.

use xds_runtime::control::Control;
use xds_runtime::image::ImageFile;
use xds_runtime::pod::Pod;
use xds_runtime::shm::Millis;
use xds_runtime::state::{Connection, State};

use crate::core::lead;
use crate::core::process::Context;

/// Without a leader, an image not confirmed for this long is old: lookups wait for a successor.
pub const OLD_IMAGE_MS: Millis = 5_000;

/// The call on whose behalf a leader is wanted: a thread is only ever started from a lookup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occasion {
    /// A name lookup.
    Lookup,
    /// A connect.
    Connect,
}

/// A pod's files.
pub trait Mesh {
    /// CONTROL.
    fn control(&self) -> Control;
    /// The current image.
    fn image(&self) -> Option<ImageFile>;
    /// STATE.
    fn state(&self) -> Option<State>;
    /// Nobody leads: start a leader if this process may.
    fn call_leader(&self, occasion: Occasion, now: Millis);
}

/// The pod that this process is attached to.
#[derive(Clone, Copy)]
pub struct Attached {
    /// The process.
    pub context: &'static Context,
    /// Its pod.
    pub pod: &'static Pod,
}

impl Attached {
    /// The pod of this process in whose STATE a socket is recorded, and the record: the present user's first, then
    /// those of users that the process was when it connected.
    pub fn of_socket(context: &'static Context, cookie: u64) -> Option<(Self, Connection)> {
        let current = context.attached()?;
        let former = context.attachments().filter(|pod| !std::ptr::eq(*pod, current));
        let states = std::iter::once((current, current.state())).chain(former.map(|pod| (pod, pod.mapped_state())));
        states.filter_map(|(pod, state)| Some((Self { context, pod }, state?.connection(cookie)?))).next()
    }
}

impl Mesh for Attached {
    #[inline]
    fn control(&self) -> Control {
        self.pod.control()
    }

    #[inline]
    fn image(&self) -> Option<ImageFile> {
        self.pod.image()
    }

    #[inline]
    fn state(&self) -> Option<State> {
        self.pod.state()
    }

    fn call_leader(&self, occasion: Occasion, now: Millis) {
        lead::call(self.context, self.pod, occasion, now);
    }
}

/// When the image was last known to be kept up: by a publish, the control plane or a leader's heartbeat.
pub fn confirmed(control: Control) -> Millis {
    control.published().max(control.contact()).max(control.lead().heartbeat)
}
