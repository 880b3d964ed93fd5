//! The replica's side of the tunnel: plain TCP in, mutual TLS to a proxy out, as stunnel in client mode does it; and it
//! can be cut.

use super::process::Proxy;
use certs_dev::Issued;
use rustls::pki_types::ServerName;
use std::{
    net::SocketAddr,
    sync::mpsc,
    thread::{self, JoinHandle},
};
use tokio::{
    io::copy_bidirectional_with_sizes,
    net::{TcpListener, TcpStream},
    runtime,
    sync::watch,
    task::JoinSet,
};
use tokio_rustls::TlsConnector;

const BUFFER: usize = 64 * 1024;

/// A forwarder on loopback; its links end with it.
pub struct Tunnel {
    address: SocketAddr,
    open: Option<watch::Sender<bool>>,
    thread: Option<JoinHandle<()>>,
}

impl Tunnel {
    /// To service `index` of `proxy`, with this certificate.
    pub fn to(proxy: &Proxy, index: usize, issued: &Issued) -> Self {
        let (target, tls) = (proxy.addresses[index], proxy.tls(Some(issued), rustls::ALL_VERSIONS));
        let connector = TlsConnector::from(tls);
        let (open, links) = watch::channel(true);
        let (tell, told) = mpsc::sync_channel(1);
        let thread = thread::spawn(move || {
            let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                tell.send(listener.local_addr().unwrap()).unwrap();
                forward(listener, target, connector, links).await;
            });
        });
        Self { address: told.recv().unwrap(), open: Some(open), thread: Some(thread) }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Cuts every link, and lets nobody through until it is mended.
    pub fn cut(&self) {
        self.open.as_ref().unwrap().send(false).unwrap();
    }

    /// Lets links through again.
    pub fn mend(&self) {
        self.open.as_ref().unwrap().send(true).unwrap();
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        drop(self.open.take());
        if let Some(thread) = self.thread.take() {
            // A panic in there has been printed.
            let _ = thread.join();
        }
    }
}

async fn forward(listener: TcpListener, target: SocketAddr, connector: TlsConnector, mut open: watch::Receiver<bool>) {
    let mut links = JoinSet::new();
    loop {
        tokio::select! {
            changed = open.changed() => if changed.is_err() { return },
            accepted = listener.accept() => {
                let (near, _) = accepted.unwrap();
                if *open.borrow() {
                    links.spawn(link(near, target, connector.clone(), open.clone()));
                }
            }
        }
    }
}

/// One link, until either end or the tunnel ends it.
async fn link(mut near: TcpStream, target: SocketAddr, connector: TlsConnector, mut open: watch::Receiver<bool>) {
    let passing = async {
        let far = TcpStream::connect(target).await?;
        far.set_nodelay(true)?;
        near.set_nodelay(true)?;
        let mut far = connector.connect(ServerName::try_from("localhost").unwrap(), far).await?;
        copy_bidirectional_with_sizes(&mut near, &mut far, BUFFER, BUFFER).await
    };
    tokio::select! {
        // Whatever ended it, both ends are closed with it.
        _ = passing => {}
        _ = open.wait_for(|open| !open) => {}
    }
}
