//! Clients that come through a load balancer: from an address of loopback's own network, with a header in front.

use super::{
    client::{Client, greeted},
    process::{PATIENCE, Proxy},
};
use std::{
    io::{self, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
};

/// A socket to the proxy that comes from this address: 127.0.0.0/8 is all ours.
pub fn socket_from(proxy: &Proxy, from: [u8; 4]) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(IpAddr::V4(Ipv4Addr::from(from)), 0).into()).unwrap();
    socket.connect(&proxy.address().into()).unwrap();
    let socket = TcpStream::from(socket);
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.set_write_timeout(Some(PATIENCE)).unwrap();
    socket.set_nodelay(true).unwrap();
    socket
}

/// A client for `app` over a socket that something may have been written to, let in or not.
pub fn client_over(proxy: &Proxy, socket: TcpStream) -> io::Result<Client> {
    let app = proxy.pki.client("app").unwrap();
    greeted(proxy.shake_with(&proxy.tls(Some(&app), rustls::ALL_VERSIONS), socket)?)
}

/// A client for `app` from this address.
pub fn client_from(proxy: &Proxy, from: [u8; 4]) -> io::Result<Client> {
    client_over(proxy, socket_from(proxy, from))
}

/// The same behind these bytes.
pub fn client_behind(proxy: &Proxy, from: [u8; 4], header: &[u8]) -> io::Result<Client> {
    let mut socket = socket_from(proxy, from);
    socket.write_all(header)?;
    client_over(proxy, socket)
}
