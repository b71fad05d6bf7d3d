//! Finds `libldmesh.so` from where this binary stands.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// The file that is preloaded.
pub const LIBRARY: &str = "libldmesh.so";

/// The absolute path of the library: beside this binary, else in `../lib`.
pub fn find() -> Result<PathBuf> {
    let exe = std::env::current_exe().context("the path of this binary is not known")?;
    find_from(&exe)
}

fn find_from(exe: &Path) -> Result<PathBuf> {
    let folder = exe.parent().unwrap_or(Path::new("/"));
    let lib = folder.parent().map(|prefix| prefix.join("lib"));
    let places = std::iter::once(folder.to_path_buf()).chain(lib);
    match places.map(|place| place.join(LIBRARY)).find(|file| file.is_file()) {
        Some(file) => Ok(file),
        None => bail!("{LIBRARY} is neither in {} nor in ../lib of it: put both files side by side", folder.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_library_beside_the_binary_comes_before_the_one_in_lib() {
        let prefix = tempfile::tempdir().unwrap();
        for folder in ["bin", "lib"] {
            std::fs::create_dir(prefix.path().join(folder)).unwrap();
        }
        let exe = prefix.path().join("bin/ldmesh");
        assert!(find_from(&exe).unwrap_err().to_string().contains("side by side"));
        for place in ["lib/libldmesh.so", "bin/libldmesh.so"] {
            let file = prefix.path().join(place);
            std::fs::write(&file, "").unwrap();
            assert_eq!(find_from(&exe).unwrap(), file);
        }
    }
}
