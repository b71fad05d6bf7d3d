//! dial HOST PORT COUNT: dials an echo server; prints its name, the echo and the peer.

use std::io::{BufRead, BufReader, Result, Write};
use std::net::TcpStream;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let count: usize = arguments[3].parse().unwrap();
    for _ in 0..count {
        let mut stream = TcpStream::connect(format!("{}:{}", arguments[1], arguments[2]))?;
        let mut lines = BufReader::new(stream.try_clone()?).lines();
        let name = lines.next().unwrap()?;
        stream.write_all(b"ping\n")?;
        println!("{name} {} at {}", lines.next().unwrap()?, stream.peer_addr()?);
    }
    Ok(())
}
