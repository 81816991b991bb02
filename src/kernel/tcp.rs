//! TCP's own words: what the kernel knows of a connection's path, and the limit on what it may
//! hold unsent.
//!
//! Above: the drivers, for a socket they own. Below: `getsockopt`, `setsockopt` and `ioctl`
//! through `libc`, where no safe crate has them. Absent: what is done with the answer.

use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::engine::operation::PathSample;

/// What the kernel knows of the path of a connected TCP socket; `None` for other sockets.
pub(crate) fn path_sample(socket: BorrowedFd<'_>) -> Option<PathSample> {
    let mut info = MaybeUninit::<libc::tcp_info>::zeroed();
    let mut len = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: [K8] the kernel writes at most `len` bytes into a place of that size.
    let asked = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    if asked != 0 {
        return None;
    }
    // SAFETY: [K8] plain numbers, zeroed before the kernel wrote some of them.
    let info = unsafe { info.assume_init() };
    Some(PathSample {
        rate_bytes_per_s: (info.tcpi_delivery_rate > 0).then_some(info.tcpi_delivery_rate),
        rtt_us: info.tcpi_rtt,
        rtt_var_us: info.tcpi_rttvar,
        rtt_min_us: info.tcpi_min_rtt,
        loss_ppm: loss_ppm(info.tcpi_total_retrans, info.tcpi_segs_out),
        payload_bytes_max: info.tcpi_snd_mss,
        unsent_bytes: info.tcpi_notsent_bytes,
        unacknowledged_bytes: unacknowledged(socket)?,
    })
}

fn loss_ppm(retransmitted: u32, sent: u32) -> u32 {
    let ppm = u64::from(retransmitted) * 1_000_000 / u64::from(sent.max(1));
    ppm.min(1_000_000) as u32
}

/// Bytes handed to the kernel that the peer's kernel has not acknowledged (SIOCOUTQ).
fn unacknowledged(socket: BorrowedFd<'_>) -> Option<u32> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: [K8] the kernel writes one int.
    let asked = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    (asked == 0).then(|| u32::try_from(bytes).unwrap_or(0))
}

/// The socket counts as writable only while fewer than `bytes` of it are unsent. False for
/// sockets that have no such limit.
pub(crate) fn limit_unsent(socket: BorrowedFd<'_>, bytes: u32) -> bool {
    // SAFETY: [K8] the kernel reads one u32.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_NOTSENT_LOWAT,
            (&raw const bytes).cast(),
            size_of::<u32>() as libc::socklen_t,
        )
    };
    set == 0
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_connection_says_what_is_under_way() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut far, _) = listener.accept().unwrap();
        assert!(limit_unsent(near.as_fd(), 16 << 10));
        near.write_all(&[7; 1000]).unwrap();
        far.read_exact(&mut [0; 1000]).unwrap();
        let sample = path_sample(near.as_fd()).unwrap();
        assert_eq!(sample.unsent_bytes, 0);
        assert!(sample.payload_bytes_max >= 536, "{sample:?}");
    }

    #[test]
    fn other_sockets_say_nothing() {
        let (near, _far) = std::os::unix::net::UnixStream::pair().unwrap();
        assert_eq!(path_sample(near.as_fd()), None);
        assert!(!limit_unsent(near.as_fd(), 1000));
    }
}
