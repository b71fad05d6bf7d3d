//! Delta ADS, from the bytes of a response to typed resources.

use control_plane::{Synthetic, type_url};

use crate::case::Runner;
use crate::mesh::{Responses, Stream};

const SERVICES: usize = 1000;
const ENDPOINTS: usize = 10;

pub fn run(runner: &mut Runner) {
    let tcp = Responses::of(&Synthetic::new(SERVICES, ENDPOINTS).yaml());
    let http = Responses::of(&Synthetic::new(SERVICES, ENDPOINTS).http().yaml());
    let cases = [
        ("listeners", &tcp, type_url::LISTENER),
        ("clusters", &tcp, type_url::CLUSTER),
        ("endpoints", &tcp, type_url::ENDPOINT),
        ("virtual hosts", &http, type_url::ROUTE),
        ("names", &tcp, type_url::NAME_TABLE),
    ];
    for (what, responses, url) in cases {
        let bytes = responses.of_type(url);
        let name = format!("{what} of {SERVICES} services");
        let input = || (Stream::to(responses), bytes.clone());
        runner.large("decode", &name, input, |(mut stream, bytes)| (stream.receive(bytes), stream));
    }
}
