//! Writes what a client hears, as the README of these clients says.

use serde_json::{json, Value};

/// What the program is called with: the URL, the token, and whether the library is alone.
pub fn arguments() -> (String, String, bool) {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().expect("a URL");
    let token = arguments.next().expect("a token");
    (url, token, arguments.next().is_some())
}

/// An event.
pub fn event(event: &str, data: &str, id: &str) {
    write(json!({ "event": event, "data": data, "id": id }));
}

/// A stream is open.
pub fn opened() {
    write(json!({ "state": "open" }));
}

/// A stream is lost.
pub fn lost() {
    write(json!({ "state": "reconnecting" }));
}

/// The client does not come back.
pub fn refused(status: u16) {
    write(json!({ "state": "closed", "status": status }));
}

fn write(line: Value) {
    println!("{line}");
}
