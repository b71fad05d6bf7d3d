//! `ldmesh run [--xds URL] -- CMD...`

use std::ffi::{OsStr, OsString};
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Result, bail};

use crate::{library, preloadable};

/// Starts a command in the mesh. Says first if preloading cannot work for it.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The control plane: `http://host:port`, `https://host:port` or `unix:///path`
    /// [default: what LDMESH_XDS or the gRPC bootstrap says].
    #[arg(long, value_name = "URL")]
    xds: Option<OsString>,
    /// The command and its arguments.
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

/// As of env(1): the command cannot be started; it was not found.
const CANNOT_START: u8 = 126;
const NOT_FOUND: u8 = 127;

/// Without one of these the library is inert.
const CONFIGURATION: [&str; 3] = ["LDMESH_XDS", "GRPC_XDS_BOOTSTRAP", "GRPC_XDS_BOOTSTRAP_CONFIG"];

/// Becomes the command; returns only when it cannot be started.
pub fn run(args: &Args) -> Result<ExitCode> {
    let Some((program, arguments)) = args.command.split_first() else {
        bail!("no command: ldmesh run -- CMD...");
    };
    let library = library::find()?;
    let mut command = Command::new(program);
    command.args(arguments);
    let obstacle = preloadable::inspect(program, Some(&library)).err();
    if let Some(obstacle) = &obstacle {
        eprintln!("ldmesh: {} will not be in the mesh: {obstacle}", program.display());
    }
    // A program that cannot be preloaded may start others that can, so it gets the variables too.
    if !obstacle.is_some_and(|obstacle| obstacle.preload_is_fatal()) {
        command.env("LD_PRELOAD", preload(&library, std::env::var_os("LD_PRELOAD").as_deref())?);
    }
    match &args.xds {
        Some(url) => {
            command.env("LDMESH_XDS", url);
        }
        None if CONFIGURATION.iter().all(|name| std::env::var_os(name).is_none()) => {
            eprintln!("ldmesh: no control plane, so nothing changes: pass --xds URL");
        }
        None => {}
    }
    let error = command.exec();
    eprintln!("ldmesh: cannot start {}: {error}", program.display());
    let not_found = error.kind() == ErrorKind::NotFound;
    Ok(ExitCode::from(if not_found { NOT_FOUND } else { CANNOT_START }))
}

/// The value of LD_PRELOAD: our library, then what was there.
fn preload(library: &Path, existing: Option<&OsStr>) -> Result<OsString> {
    let bytes = library.as_os_str().as_bytes();
    if bytes.iter().any(|byte| *byte == b':' || byte.is_ascii_whitespace()) {
        bail!("LD_PRELOAD cannot name {}: move it to a path without `:` or blanks", library.display());
    }
    let mut value = library.as_os_str().to_owned();
    let Some(existing) = existing.filter(|existing| !existing.is_empty()) else {
        return Ok(value);
    };
    let mut elements = existing.as_bytes().split(|byte| *byte == b':' || *byte == b' ');
    if elements.any(|element| element == bytes) {
        return Ok(existing.to_owned());
    }
    value.push(":");
    value.push(existing);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_preload(existing: Option<&str>, expected: &str) {
        let value = preload(Path::new("/lib/libldmesh.so"), existing.map(OsStr::new)).unwrap();
        assert_eq!(value, expected);
    }

    #[test]
    fn the_library_comes_before_others_and_only_once() {
        check_preload(None, "/lib/libldmesh.so");
        check_preload(Some(""), "/lib/libldmesh.so");
        check_preload(Some("/lib/a.so b.so"), "/lib/libldmesh.so:/lib/a.so b.so");
        check_preload(Some("a.so:/lib/libldmesh.so"), "a.so:/lib/libldmesh.so");
        check_preload(Some("/lib/libldmesh.so.1"), "/lib/libldmesh.so:/lib/libldmesh.so.1");
    }

    #[test]
    fn a_path_that_ld_preload_cannot_express_is_refused() {
        for path in ["/a b/libldmesh.so", "/a:b/libldmesh.so"] {
            let error = preload(Path::new(path), None).unwrap_err();
            assert!(error.to_string().contains("move it"), "{error}");
        }
    }
}
