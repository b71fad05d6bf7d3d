//! As much of HTTP/1.1 as a client needs that times answers with a Content-Length.

use std::io::{Read, Write};
use std::net::TcpStream;

use anyhow::{Context, Result, ensure};

/// Holds an answer's head; longer bodies are read through it.
const BUFFER: usize = 256 << 10;
const END_OF_HEAD: &[u8] = b"\r\n\r\n";

/// A connection that is asked for the same thing again and again.
pub(crate) struct Connection {
    stream: TcpStream,
    request: Vec<u8>,
    buffer: Vec<u8>,
}

impl Connection {
    pub fn new(stream: TcpStream, path: &str) -> Self {
        let request = format!("GET {path} HTTP/1.1\r\nHost: greeter\r\n\r\n").into_bytes();
        // A first request for something small shall not pay for pages that it never touches.
        Connection { stream, request, buffer: Vec::new() }
    }

    /// Asks and reads the whole answer; gives the length of its body in bytes.
    pub fn request(&mut self) -> Result<usize> {
        self.stream.write_all(&self.request)?;
        if self.buffer.is_empty() {
            self.buffer.resize(4096, 0);
        }
        let mut have = 0;
        let (body, length) = loop {
            have += self.read(have)?;
            let got = self.buffer.get(..have).unwrap_or_default();
            if let Some(end) = got.windows(END_OF_HEAD.len()).position(|window| window == END_OF_HEAD) {
                break (end + END_OF_HEAD.len(), content_length(&got[..end])?);
            }
        };
        let mut left = (body + length).checked_sub(have).context("more than one answer")?;
        if left > self.buffer.len() {
            self.buffer.resize(BUFFER, 0);
        }
        while left > 0 {
            left = left.checked_sub(self.read(0)?).context("more than one answer")?;
        }
        Ok(length)
    }

    fn read(&mut self, from: usize) -> Result<usize> {
        let room = self.buffer.get_mut(from..).unwrap_or_default();
        ensure!(!room.is_empty(), "an answer's head is too long");
        let read = self.stream.read(room)?;
        ensure!(read > 0, "the connection ended in an answer");
        Ok(read)
    }
}

fn content_length(head: &[u8]) -> Result<usize> {
    let head = str::from_utf8(head)?;
    ensure!(head.starts_with("HTTP/1.1 200 "), "the answer is {head}");
    let mut fields = head.split("\r\n").filter_map(|line| line.split_once(':'));
    let length = fields.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    Ok(length.context("an answer without Content-Length")?.1.trim().parse()?)
}
