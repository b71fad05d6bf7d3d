//! What the runtime's inner parts cost: reading an image, picking, compiling and publishing, decoding.
//!
//! ```text
//! YAML -> control plane -> delta responses -> (decode) -> resources -> (compile) -> (encode) -> (publish) -> image
//!                                                                          names and destinations -> (lookup), (pick)
//! ```
//! `cargo bench -p xds-runtime` measures times. Under valgrind and with `--counted` each case runs a few times instead,
//! and its instructions are counted (`scripts/instructions.sh`).

#![allow(clippy::unwrap_used)] // a benchmark: what fails here is to be seen

mod callgrind;
mod case;
mod decode;
mod lookup;
mod mesh;
mod pick;
mod publish;

use case::Runner;

fn main() {
    let mut runner = Runner::of_arguments();
    lookup::run(&mut runner);
    pick::run(&mut runner);
    decode::run(&mut runner);
    publish::run(&mut runner);
    runner.finish();
}
