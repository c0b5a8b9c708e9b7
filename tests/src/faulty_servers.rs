//! Faulty servers, and a machine without name resolution.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::{World, built, command, skip};

/// An address where no server listens: a port that was free a moment ago.
pub fn closed_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

/// Starts a server on 127.0.0.1 that handles each connection with `answer` until the tests end; returns its address.
pub fn serve(answer: impl Fn(TcpStream) + Clone + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let answer = answer.clone();
            std::thread::spawn(move || answer(client));
        }
    });
    host
}

/// Reads a request's head; false at the end of the connection.
pub fn read_head(client: &mut TcpStream) -> bool {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match client.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return false,
        }
    }
    true
}

/// A server that sends this answer to each request; returns its address.
pub fn answering(answer: impl Into<String>) -> String {
    let answer = answer.into();
    serve(move |mut client| while read_head(&mut client) && client.write_all(answer.as_bytes()).is_ok() {})
}

/// A server that answers each request with this status and these headers, each with its line end; returns its address.
pub fn answering_status(line: &str, headers: &str) -> String {
    answering(format!("HTTP/1.1 {line}\r\n{headers}content-length: 0\r\n\r\n"))
}

/// A server that accepts connections and never answers; returns its address.
pub fn silent_server() -> String {
    serve(|mut client| {
        let _ = std::io::copy(&mut client, &mut std::io::sink());
    })
}

/// Makes the world's program use a name server that does not answer, which is returned; reports if this machine does not support that.
pub fn without_names(world: &mut World) -> Option<UdpSocket> {
    // A resolver's port cannot be configured, its address can.
    let mut free = (1..=250).filter_map(|last| {
        let address = format!("127.53.{}.{last}", std::process::id() % 250);
        Some((UdpSocket::bind((address.as_str(), 53)).ok()?, address))
    });
    let Some((server, address)) = free.next() else {
        skip("the right to listen at port 53");
        return None;
    };
    let resolver = world.write("resolv.conf", &format!("nameserver {address}\n"));
    let order = world.write("nsswitch.conf", "hosts: files dns\n");
    let mount =
        |from: &Path, to: &str| format!("if [ -e {to} ]; then mount --bind {} {to}; fi", from.display());
    let mounts = [mount(&resolver, "/etc/resolv.conf"), mount(&order, "/etc/nsswitch.conf")].join(" && ");
    let script = format!(
        "#!/bin/sh\nexec unshare --map-root-user --mount sh -c '{mounts} && exec \"$0\" \"$@\"' \"$@\"\n"
    );
    let script = world.write("without-names", &script);
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    if !command(&script).arg("true").status().is_ok_and(|status| status.success()) {
        skip("unshare with mounts of its own");
        return None;
    }
    let program = built().join("xtask").display().to_string();
    let run = format!("#!/bin/sh\nexec {} {program} \"$@\"\n", script.display());
    let run = world.write("xtask-without-names", &run);
    std::fs::set_permissions(&run, std::fs::Permissions::from_mode(0o755)).unwrap();
    world.program = run;
    Some(server)
}

/// Answers each query to `server` with "no such name" (RFC 1035, 4.1.1: RCODE 3), until the tests end.
pub fn deny_names(server: UdpSocket) {
    std::thread::spawn(move || {
        let mut message = [0; 512];
        while let Ok((length @ 4.., client)) = server.recv_from(&mut message) {
            (message[2], message[3]) = (0x81, 0x83);
            let _ = server.send_to(&message[..length], client);
        }
    });
}
