//! Decisions, numbered, with what decided them. A number is never used twice; a decision that
//! falls stays, with its successor named.
//!
//! The figures are medians of small programs on Linux 6.18, two cores, in November 2026. The
//! machine was shared: the shape is what counts, measure again before you rely on a value.
//!
//! # D1: one ring per thread, one thread per core
//!
//! A connection lives and dies on the core that accepted it; its state needs no lock and its
//! bytes stay in one cache. Rings are made for a single submitter, so a shared one would have to
//! bring back the lock that the design saves. Load is spread when a connection is accepted, not
//! later. *Falls if* servers turn out to be so uneven that moving live connections pays.
//!
//! # D2: the set of posted receive buffers is short
//!
//! The kernel takes posted buffers in order, so all of them are touched in turn: what is posted is
//! what has to stay in the cache. Spare buffers are a stack, but handing the hottest one back
//! first helps only once it is posted; keeping the queue short is what works. Too short a queue
//! starves: forty flooding sockets with 64 posted buffers of 4 KiB and no credit ran dry
//! 15 979 times; with a credit of one buffer each, or of two with 128 posted, never. Arming 200
//! receives in one system call ran dry 55 036 times, since arming itself receives at once. One
//! socket posts up to 33 completions in a call. Hence the bound, which the
//! driver keeps by capping the receives it arms per call (never below four):
//! posted ≥ (20 + receives armed per call) × ⌈credit ÷ buffer⌉.
//!
//! # D3: payloads from 2 KiB are leased, smaller ones copied
//!
//! Making a received Message owned costs, in nanoseconds:
//!
//! | payload | copy | lease |
//! |---|---|---|
//! | 64 B | 13 | 53 to 55 |
//! | 1 KiB | 20 | 53 to 55 |
//! | 2 KiB | 51 | 53 to 55 |
//! | 4 000 B | 67 | 53 to 55 |
//!
//! The lines cross at about 2 KiB. Besides, a lease of 64 bytes keeps a whole buffer from the pool,
//! so below the crossing a copy is better twice over. When the pool is nearly empty, large
//! payloads are copied too, and counted.
//!
//! # D4: payloads from 8 KiB are sent from where they lie
//!
//! Below that a payload is copied behind its header, so that a turn's replies are one piece of
//! memory and one plain send. Above, it is a piece of its own in a list, without a copy. The
//! limit is an estimate from D3's figures (copying 4 000 bytes costs 67 ns and grows with the
//! length, a shared piece costs the lease and a longer list for the kernel to walk), not yet a
//! measurement of the send path; change `SHARE_BYTES_MIN` with a figure and write it here.
//!
//! # D5: waiting is a named choice
//!
//! No way of waiting wins everywhere. One connection, one request at a time: a sleeping core
//! answers 48 000 a second, one that spins while recent gaps promise an event within 20 µs
//! 147 000, which is 0.98 of endless spinning; and with 1 000 idle connections it costs no
//! measurable CPU. But at a steady 157 000 requests a second that gap is 6 µs, so the adaptive
//! core spins through: 0.84 of a core against 0.58 asleep, for a median of 14 µs against 24 µs
//! (always spinning: 1.0 and 10 µs). At 251 000 it is 0.955 against 0.861. Who pays for the CPU
//! has to choose: `Wait::Sleep` is the default, `Wait::Adaptive` and `Wait::Spin` are there by
//! name.
//!
//! A spinning core watches the ring's flags or enters the kernel; both gave the same rate (151 000
//! and 149 000). Watching the completion queue alone hangs: with deferred task work nothing is
//! posted until somebody enters.
//!
//! # D6: a sleeping core is woken from other threads by an eventfd
//!
//! Sending a ring message from a thread without a ring took 36 µs to the wake-up, an eventfd
//! 40 µs, and both cost the sender 15 µs. Four microseconds do not pay for a second path. Between
//! cores, which have rings, ring messages are used.
//!
//! # D7: no borrow of the core's state lives across user code
//!
//! A payload's Drop may send; so may a waker, a framer or a handler's own Drop. Run inside a
//! borrow, each of them panics with "already borrowed". So handler, framer and outbox are taken
//! out of their slot for the call, and drops and wakes are queued until the borrow has ended.
//!
//! # D8: one listening socket per core; its queue is emptied before it closes
//!
//! With a socket per core the kernel spreads connections and no thread hands them on. The price
//! is that a queue belongs to its socket: closing one of two listeners with waiting connections
//! reset 115 of 200. So a closing listener accepts until there is nothing left. Unix sockets cannot
//! share an address this way; one core accepts and deals connections out in turn, because a
//! single socket armed on two rings gave 1 000 connections of a steady stream to one of them, and
//! 871 to 129 in a burst.
//!
//! # D9: nothing is framed silently
//!
//! The address names the stack, the type names the framer; [`Unframed`](crate::Unframed) is the
//! default and adds nothing. A framing that one side believes in and the other does not is the
//! kind of fault that shows late and far away.
//!
//! # D10: rivals are compared in pairs, interleaved, with a row against itself
//!
//! One server differs from itself by 3.3 % (standard deviation) from run to run. "At least 0.98
//! of the best of seven, in six cases, medians of five" is passed by a server identical to all its
//! rivals in one session of a hundred. So every comparison alternates its runs, has many of them,
//! and shows what the same server scores against itself.
//!
//! # D11: security advisories are not part of CI
//!
//! Their database comes from a git host at run time; a check that needs more than the package
//! registries would fail for reasons that have nothing to do with the change. `cargo deny check
//! advisories` works with the committed configuration where there is a network.
//!
//! # D12: a newcomer's first receive has one buffer's credit
//!
//! D2's bound lets 12 receives of the usual credit be armed in one call with the default limits,
//! so a burst of connections took many turns to be heard. One buffer's worth for a connection
//! that has not sent a message yet makes it 48; from its first message on it has the usual credit.
//!
//! # D13: with epoll, a connection's replies leave before the next connection is read
//!
//! Sending at the end of the turn, as with io_uring, visits every connection twice, and with fifty
//! of them the kernel's state of the first has left the cache by then: server CPU per 4 KiB
//! message was 1.27 of a bare epoll loop's, and 1.11 with each connection answered at once; 64
//! bytes at depth 16 went from 0.92 to 0.88 (five interleaved pairs in one run). io_uring keeps
//! the end of the turn: it may bring several buffers of one connection, whose replies are one send.
//!
//! # D14: after an end was decided, 4 MiB are read and thrown away
//!
//! Closing a socket with unread bytes resets it, and the reset may destroy replies on their way.
//! So what still comes is read until the peer ends or `Timeouts::linger` is over. Without a bound
//! a flooding peer was read at wire speed for all that time: 3 to 5 GB in five seconds.
//!
//! # D15: a lost connection is made again by the side that made it
//!
//! The draft has Carriers that survive their connection as long as the Association has what it
//! takes to make another. Over TCP that is the address, so a Carrier that was initiated goes on and
//! an accepted one ends: it has nobody to call. It also takes a framer that can begin anew
//! ([`RESTARTABLE`](crate::Framer::RESTARTABLE)) and whose encoded Messages do not lean on earlier
//! ones ([`STANDS_ALONE`](crate::Framer::STANDS_ALONE)), for those that wait are encoded already;
//! otherwise a loss closes the Carrier, with its reason: a state that nothing can leave but the end
//! would only be another word for closed.
//!
//! A loss is a reset, an error of the connection, an idle or an unread-send timeout, and an end of
//! the peer within a Message. An orderly end is none; but where the peer has ended and then refuses
//! what is sent, as a process does that was started again, the Carrier is lost like any other, and
//! receives begin anew. A dormant Carrier connects when there is something to send or somebody
//! waits to receive; without either it costs its slot and no traffic. What is resent:
//!
//! - not handed to the kernel, or only its beginning: the peer cannot have it; it goes again
//! - handed over and acknowledged by the peer's kernel: no
//! - handed over, not known as acknowledged, idempotent and within `Limits::resend_bytes`: again
//! - the same but not idempotent: no; it settles as `MayHaveArrived`
//!
//! The acknowledgement is that of the peer's kernel: a process that dies with unread bytes takes
//! them along. Only an answer of the application says more. Connections that may be made again
//! send without zero-copy, whose buffers do not come back. *Falls if* a stack with acknowledgements
//! of the receiver carries the Carrier.
//!
//! # D16: nothing stands between the parts of a Message on a byte stream
//!
//! A length or a delimiter frames what follows it, so the stack can do nothing else until the
//! last part is there. Other senders wait at the door instead of in the queue, where their order
//! would be a promise that the stack cannot keep; and niceness or lifetime of a Message in parts is
//! refused aloud. Receiving, a large Message whose framer cuts is not received ahead of demand:
//! until somebody asks, nobody knows whether it is wanted whole.
//!
//! # D17: what is urgent waits behind one quantum, not behind the kernel's buffer
//!
//! From its first Message with niceness or lifetime on, a connection hands the kernel a quantum at
//! a time (what the path carries in 100 us, 1 400 bytes at least), each only when the socket is
//! writable under `TCP_NOTSENT_LOWAT` (SEND with POLL_FIRST; EPOLLOUT). 100 bytes of class 0
//! every 10 ms beside saturating bulk, 100 Mbit/s, cubic, p99 in ms: limit 16 KiB 3.6, 4 KiB 2.3
//! (bulk of 1 400 B; goodput 95.5 and 95.4 of 95.6 Mbit/s). With bulk of 16 kB whole frames per
//! SEND made 6.8; frames cut into quanta make 3.9: the kernel builds smaller trains of packets.
//! With bbr the medians are better still (1.6 and 2.2); p99 is 1.8 to 3.6 (1 400 B) and 3.0 to
//! 8.9 (16 kB) on a machine with other work, and was up to 19 on a busier one: what bbr has sent
//! ahead then stands in the bottleneck's queue, beyond the sender's reach.
//!
//! # D18: on a busy path the admission test reckons with what round trips take
//!
//! Deadline order under overload always sends what is about to expire, so an estimate that is too
//! low by a millisecond makes every Message late: with half of the emptiest round trip as the delay
//! and 350 ms of queue, 8 % of what fits was on time at 120 % load. While bytes are unsent in the
//! kernel, the delay is the smoothed round trip less the empty way back, and four times its
//! variation, and the 5 ms that a measurement may be old (without them 2 to 3 % of the bytes came
//! too late at 120 % load; with them none, and nothing less on time). On an idle path it is half of
//! the emptiest round trip: there a high variation (late acknowledgements) would let Messages
//! expire that nothing stands in the way of.
//!
//! # D19: more urgent Messages find room in a full queue
//!
//! `Limits::send_queue_bytes` counts per class and those above it; one that is more urgent than the
//! worst that waits may use as much again. With one bound for all, bulk that keeps the queue full
//! would make class 0 wait at the door, in the order of asking.
//!
//! # D20: with epoll, large messages come into a block that an echo shares
//!
//! A buffer of its own for each message of 64 KiB went back to the system when it was dropped and
//! came again page by page. Messages of 32 to 128 KiB are received into one block of the core that
//! messages share by reference count; a fresh one takes its place only while somebody keeps the
//! old. 64 KiB x 8 against a bare epoll loop, 15 interleaved runs on a busy machine: messages/s
//! 0.81 before, 0.95 after (two runs of the bare loop: 0.95). A shorter payload is not shared: it
//! would keep more than four times its size.
//!
//! # D21: an Association is a Remote, an attachment and a framer, on one core
//!
//! The draft gives each Association one Configuration, which names the protocols up to the
//! application's; of ours the framer is the part that Carriers choose. So its type is in the key,
//! and the Carriers of an Association are all of one type: `carriers()` gives them with every
//! verb, where a table of mixed ones could only describe them. The price is that two framers to the
//! same Remote learn its Paths twice. An initiated Carrier's Remote is the address as it was
//! written, resolved or not. Without identities in the protocol, an accepted one's is its host and
//! the local address it came to, for its port is another each time; and peers on unix sockets,
//! which have not even a host, are each their own.
//!
//! Who accepts, pays when asked: a Responder's connection knows nothing of its Association until
//! `association()` is called on it, so that idle connections stay as small and messages as fast as
//! without. Paths are measured when somebody asks and when a connection ends, not in between, and
//! told apart by networks, not by ports. *Falls if* identities (keys, certificates) come with the
//! stack: then they are the Remote.
//!
//! # D22: datagrams leave in trains that are cut while they are framed
//!
//! `Output` keeps, beside its bytes, where each datagram ends and to whom it goes; datagrams of
//! one length to one peer that follow one another make a train, which leaves in one call (GSO). So
//! the plain way of a stream is the way of datagrams, too: one copy of the payload, no table of
//! packets, no allocation each. What comes is read by one multishot receive a socket into buffers
//! of 68 KiB, 64 of them with the kernel: a train as the kernel gathers it (GRO), less only what
//! it wrote. With 16 of them, single datagrams came at 0.73 to 0.83 of the best of four rival
//! servers; with 64, and without the control messages that nobody reads (time, own address), at
//! 1.02 to 1.08, bursts of 16 at 1.00 to 1.08, those of 1 200 bytes from four clients at 0.88: six
//! to sixteen times the plain server's. What is left of that case is the one copy.
//!
//! A Responder's socket serves all peers with one protocol: where an answer goes stands in the
//! call, so a million senders cost nothing. Listeners and async handlers need to know later to
//! whom: they get a Carrier for each remote, which has no socket of its own and sends by its
//! Listener's.
//!
//! # D23: a datagram socket never fragments, and hears what becomes of what it sent
//!
//! Fragments are lost together and stand in the way of everybody; so a Message is as long as the
//! path's packets carry (65 507 bytes on the loopback, 1 472 on Ethernet) or refused with that
//! number. Connected Carriers ask their socket for it; for all others the kernel is asked once per
//! address and ten seconds, and only for datagrams longer than any path carries (1 232 bytes).
//!
//! Every socket keeps the kernel's error queue. Without it Linux says nothing of what a full
//! device drops (26 of 1 000 datagrams came through a queue of 12 kB, none of the others was
//! counted), and a socket with many peers never hears of any. A port where nobody listens ends the
//! Carrier to it: whoever waits for an answer would wait for ever. What routers say of a path may
//! be over in a second and ends nothing. An error that waits on the socket meets the next datagram,
//! whosever that is: it is tried once more. Datagram Carriers are not made again by themselves:
//! there is no connection whose loss could be told from silence.
//!
//! # D24: datagrams are always received by multishot
//!
//! A multishot receive looks at the socket once more after each datagram, which one at a time could
//! do without. With one client and one datagram under way, a round trip took 23.4 us (64 bytes) and
//! 23.7 us (1 200 bytes), against 21.2 and 23.4 us of a server of plain calls and 24.4 and 22.1 us
//! of the epoll driver (medians of 7 interleaved runs of 0.5 s): some 2 us at best are to be had.
//! That is no reason for a second way to receive; whoever wants it chooses the epoll driver.
//!
//! # D25: a datagram's deadline is held against how quickly its socket takes others
//!
//! Nobody measures a path for datagrams, and the kernel keeps what it was given: on a link of 100
//! Mbit/s that was offered 120 %, datagrams whose lifetime had not run out at their turn arrived 1
//! to 5 ms after it, and 70 % of all bytes had left in vain. Once a Carrier's Messages ask for an
//! order, its socket holds two packets, no more bytes go at a time than that or than 100 us carry,
//! and as long as there is always more to send, what the socket takes is the rate of the narrowest
//! place on this host. A datagram that cannot have left by its deadline at that rate, less a
//! millisecond for late timers, makes way. In time then: 100.5 % of the link with lifetimes and
//! 100.0 % with niceness as well, of 31 and 68 % before; in vain 1 %; the urgent class's p99 1.4
//! ms of 13 before and 821 first in, first out (`loadgen front-page --over udp`, 3 s each). What
//! waits behind this host, at a router, nobody tells a sender of datagrams.
