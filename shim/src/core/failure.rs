//! A connect to an endpoint failed: counted in STATE, and when a detector of its cluster fires, the endpoint is ejected
//! for the whole pod, here and now.

use xds_runtime::lb::Seeded;
use xds_runtime::outlier::{self, Ejected};
use xds_runtime::shm::Millis;
use xds_runtime::state::Member;

use crate::core::mesh::Mesh;
use crate::core::process;

/// Counts a failure; what reads the image and STATE is marked for the crash breaker. Returns the ejection that came of
/// it. `cookie` is the socket's: chance differs from one to the next.
#[inline(never)]
pub fn count(mesh: &dyn Mesh, member: &Member, cookie: u64, now: Millis) -> Option<Ejected> {
    let (control, state) = (mesh.control(), mesh.state()?);
    let mark = control.mark(std::ptr::from_ref(&now) as usize, now);
    let mut entropy = Seeded(process::entropy(cookie));
    let ejected = outlier::failed_in(mesh.image().as_ref(), &state, member, now, &mut entropy);
    control.unmark(mark);
    ejected
}
