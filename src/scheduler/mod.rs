//! stub
pub(crate) type Number = u64;
pub(crate) struct Bounds {
    pub messages: usize,
    pub bytes: usize,
}
pub(crate) const ANTECEDENTS_MAX: usize = 16;
pub(crate) struct Ask<'a> {
    pub carrier: u32,
    pub niceness: u32,
    pub deadline_us: Option<u64>,
    pub antecedents: &'a [Number],
    pub bytes: usize,
}
#[derive(Debug)]
pub(crate) enum Refusal {
    Full,
    TooManyAntecedents,
    UnknownAntecedent(Number),
}
pub(crate) enum Expiry {
    Deadline,
    Hopeless,
    Antecedent(Number),
}
pub(crate) enum Event<T> {
    Expired { number: Number, why: Expiry, begun: bool, payload: T },
}
pub(crate) struct Path {
    pub rate_bytes_per_s: Option<u64>,
    pub delay_us: u64,
    pub unsent_bytes: u64,
}
pub(crate) struct Taken {
    pub number: Number,
    pub from: usize,
    pub len: usize,
    pub last: bool,
}
pub(crate) struct Scheduler<T> {
    q: std::collections::BTreeMap<(u32, u64, u64), (T, usize)>,
    n: u64,
    bytes: usize,
    last: Option<T>,
}
impl<T> Scheduler<T> {
    pub(crate) fn new(_b: Bounds) -> Self {
        Self { q: Default::default(), n: 0, bytes: 0, last: None }
    }
    pub(crate) fn submit(
        &mut self,
        _now: u64,
        ask: Ask<'_>,
        payload: T,
    ) -> Result<Number, (Refusal, T)> {
        self.n += 1;
        self.bytes += ask.bytes;
        self.q.insert(
            (ask.niceness, ask.deadline_us.unwrap_or(u64::MAX), self.n),
            (payload, ask.bytes),
        );
        Ok(self.n)
    }
    pub(crate) fn take(&mut self, _now: u64, _p: &Path, _q: usize) -> Option<Taken> {
        let (k, (p, b)) = self.q.pop_first()?;
        self.bytes -= b;
        self.last = Some(p);
        Some(Taken { number: k.2, from: 0, len: b, last: true })
    }
    pub(crate) fn finish(&mut self, _n: Number) -> Option<T> {
        self.last.take()
    }
    pub(crate) fn expire(&mut self, _n: u64) {}
    pub(crate) fn poll_event(&mut self) -> Option<Event<T>> {
        None
    }
    pub(crate) fn next_timeout_us(&self) -> Option<u64> {
        None
    }
    pub(crate) fn queued_messages(&self) -> usize {
        self.q.len()
    }
    pub(crate) fn queued_bytes(&self) -> usize {
        self.bytes
    }
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = (Number, T)> + use<T> {
        std::mem::take(&mut self.q).into_iter().map(|(k, v)| (k.2, v.0))
    }
}
