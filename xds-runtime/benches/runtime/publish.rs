//! From accepted resources to a published image, as a whole and after one endpoint changed.

use bytes::Bytes;
use control_plane::{Synthetic, type_url};
use xds_runtime::image::{Publisher, encode, file_words};

use crate::case::Runner;
use crate::mesh::{BOOT, Mesh, Responses, Stream, zeroed};

const SERVICES: [usize; 2] = [100, 10_000];
const ENDPOINTS: usize = 10;

pub fn run(runner: &mut Runner) {
    for services in SERVICES {
        let (tcp, http) = (Synthetic::new(services, ENDPOINTS), Synthetic::new(services, ENDPOINTS).http());
        whole(runner, &format!("{services} services"), tcp);
        whole(runner, &format!("{services} HTTP services"), http);
        change(runner, services, tcp);
    }
}

fn whole(runner: &mut Runner, size: &str, synthetic: Synthetic) {
    let mut mesh = Mesh::of_yaml(&synthetic.yaml());
    let compiled = mesh.compile();
    let content = encode(&compiled.mesh).unwrap();
    runner.note(&format!("an image of {size} of {ENDPOINTS} endpoints has {} bytes", content.len() * 8));
    let mut publisher = Publisher::format(zeroed(file_words(content.len())), BOOT, 1, 0).unwrap();
    runner.large("publish", &format!("compile {size}"), || (), |()| mesh.compile());
    runner.large("publish", &format!("encode {size}"), || (), |()| encode(&compiled.mesh).unwrap());
    runner.large("publish", &format!("write {size}"), || (), |()| publisher.publish(&content).unwrap());
}

/// One endpoint moves to and fro.
fn change(runner: &mut Runner, services: usize, synthetic: Synthetic) {
    let (before, after) = (Responses::of(&synthetic.yaml()), Responses::of(&synthetic.moved(services / 2).yaml()));
    let mut mesh = Mesh::of(&before);
    let moved = |responses: &Responses| -> Bytes {
        responses.some_of_type(type_url::ENDPOINT, |name| name == Synthetic::cluster(services / 2))
    };
    let pushes = [moved(&after), moved(&before)];
    let mut next = pushes.iter().cycle();
    let mut stream = Stream::to(&before);
    for push in &pushes {
        mesh.apply(stream.receive(push.clone()));
    }
    // Twice: an arena has room for what grew by an endpoint.
    let words = 2 * encode(&mesh.compile().mesh).unwrap().len();
    let mut publisher = Publisher::format(zeroed(file_words(words)), BOOT, 1, 0).unwrap();
    let name = format!("one endpoint of {services} services moved");
    runner.large(
        "publish",
        &name,
        || next.next().unwrap().clone(),
        |push| {
            mesh.apply(stream.receive(push));
            publisher.publish(&encode(&mesh.compile().mesh).unwrap()).unwrap()
        },
    );
}
