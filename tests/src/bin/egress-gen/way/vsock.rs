//! Virtual sockets, to this very machine: never to the host (CID 2) or another.

use std::io::{self, Read as _, Write as _};
use std::thread;

use anyhow::{Result, anyhow};
use socket2::{Domain, SockAddr, Socket, Type};

use super::{Order, Sent};

/// `VMADDR_CID_LOCAL` (Linux `include/uapi/linux/vm_sockets.h`): needs the loopback transport (`vsock_loopback`).
const LOCAL: u32 = 1;

/// Sends to a listener of its own.
pub fn send(order: &Order) -> Result<Sent> {
    let (listener, client) = connected(order.to.port().into())?;
    let reader = thread::spawn(move || -> io::Result<()> {
        let (mut peer, _) = listener.accept()?;
        let mut buffer = vec![0; 65_536];
        while peer.read(&mut buffer)? > 0 {}
        Ok(())
    });
    let mut sent = Sent::default();
    order.all(&mut sent, |data| (&client).write(data))?;
    drop(client);
    reader
        .join()
        .map_err(|_| anyhow!("the reader panicked"))??;
    Ok(sent)
}

/// A listener and a connection to it.
pub fn connected(port: u32) -> io::Result<(Socket, Socket)> {
    let address = SockAddr::vsock(LOCAL, port);
    let listener = Socket::new(Domain::VSOCK, Type::STREAM, None)?;
    listener.bind(&address)?;
    listener.listen(1)?;
    let client = Socket::new(Domain::VSOCK, Type::STREAM, None)?;
    client.connect(&address)?;
    Ok((listener, client))
}
