//! Reading an image: names and destinations, hits and misses.

use std::net::{IpAddr, Ipv4Addr};

use control_plane::Synthetic;
use xds_runtime::image::ImageFile;
use xds_runtime::shm::WordAddr;

use crate::case::Runner;
use crate::mesh::Mesh;

const SERVICES: [usize; 2] = [100, 10_000];

pub fn run(runner: &mut Runner) {
    for services in SERVICES {
        let image = Mesh::of_yaml(&Synthetic::new(services, 10).yaml()).image();
        // Not in the order in which they lie in the image.
        let some = || (0..1000).map(|nth| nth * 7919 % services);
        let names: Vec<String> = some().map(Synthetic::host).collect();
        let unknown: Vec<String> = some().map(|nth| format!("service-{nth}.example.com")).collect();
        let vips: Vec<WordAddr> = some().map(|nth| address(Synthetic::vip(nth))).collect();
        let foreign: Vec<WordAddr> = some().map(|nth| address(Ipv4Addr::from(0xc633_6400 + nth as u32))).collect();
        look(runner, &format!("name hit, {services} services"), &names, |name| has_name(&image, name), true);
        look(runner, &format!("name miss, {services} services"), &unknown, |name| has_name(&image, name), false);
        look(runner, &format!("destination hit, {services} services"), &vips, |vip| describes(&image, *vip), true);
        look(runner, &format!("destination miss, {services} services"), &foreign, |at| describes(&image, *at), false);
    }
}

/// Looks for one key after the other.
fn look<K>(runner: &mut Runner, name: &str, keys: &[K], find: impl Fn(&K) -> bool, found: bool) {
    assert!(keys.iter().all(|key| find(key) == found), "{name}");
    let mut next = keys.iter().cycle();
    runner.small("lookup", name, || find(next.next().unwrap()));
}

fn has_name(image: &ImageFile, name: &str) -> bool {
    image.read(|view| Ok(view.name(name.as_bytes())?.is_some())).unwrap()
}

fn describes(image: &ImageFile, address: WordAddr) -> bool {
    image.read(|view| Ok(view.destination(address, Synthetic::PORT)?.is_some())).unwrap()
}

fn address(ip: Ipv4Addr) -> WordAddr {
    WordAddr::new(IpAddr::V4(ip))
}
