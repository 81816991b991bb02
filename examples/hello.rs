//! A complete echo server, one thread per core: try it with `say_hello`.

use postring::LengthPrefixed;

fn main() -> postring::Result<()> {
    let frames = LengthPrefixed::default();
    postring::respond_with("tcp://[::]:7000", frames, |message, reply| reply.send(message))
}
