//! Link options of libldmesh.so: it stays mapped for the life of the process, whatever dlclose says.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
}
