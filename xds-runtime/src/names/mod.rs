//! Which names are the mesh's to answer, in libc's order.
//!
//! ```text
//! numeric, own hostname, localhost, /etc/hosts   -> libc's business, asked nothing further
//! candidates (search list, ndots, final dot)     -> each looked up in the image, the first hit answers
//! no hit                                         -> libc
//! ```
//!
//! The order is that of glibc's `hosts: files dns`. nsswitch.conf is not read: where `dns` is missing or comes before
//! `files`, a name in `/etc/hosts` is still left to libc, and a name of the mesh is still answered from the image.
//! musl differs in one point (a name with enough dots is never searched for); that only adds candidates.
//!
//! Everything here is pure but [`NameFiles`], which keeps the two files parsed and notices their changes.

mod candidates;
mod files;
mod hosts;
mod numeric;
mod resolv_conf;

pub use candidates::{Candidate, Candidates, candidates};
pub use files::{NameFiles, Unknown, Whose};
pub use hosts::{Families, Hosts};
pub use numeric::is_numeric_host;
pub use resolv_conf::ResolvConf;

/// The variables libc's resolver reads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResolverEnv {
    /// `LOCALDOMAIN`: replaces the search list of the file; may be empty.
    pub local_domain: Option<String>,
    /// `RES_OPTIONS`: comes after the file's options.
    pub res_options: Option<String>,
    /// Whether `HOSTALIASES` is set: then names without a dot are libc's business.
    pub host_aliases: bool,
}

/// Why a name is libc's business.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LibcName {
    /// Digits of an address, as inet_aton(3) or inet_pton(3) take them.
    Numeric,
    /// What gethostname(2) says.
    OwnHostname,
    /// `localhost` and what lies below it (RFC 6761).
    Localhost,
    /// `/etc/hosts` answers it in a family asked for.
    HostsFile,
    /// `HOSTALIASES` may rename it.
    HostAlias,
    /// No host name of a mesh looks like this.
    Malformed,
}

/// Whether this is `localhost` or below it, with or without the final dot.
pub fn is_localhost(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let last = name.rsplit('.').next().unwrap_or_default();
    last.eq_ignore_ascii_case("localhost")
}
