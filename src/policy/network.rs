//! Admission by address, before a single TLS byte.
//!
//! The lists are merged into sorted, disjoint ranges once; a look-up is two binary searches whatever their length.
//! Caps on connections (in total, per address) are counted by the shell, which alone knows what is open.

use ipnet::{IpNet, Ipv4Net, Ipv4Subnets, Ipv6Net, Ipv6Subnets};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// Proof that an address passed the allowlist: made by [`Admission::admit`] alone.
#[derive(Clone, Debug)]
pub struct Admitted {
    src: SocketAddr,
}

impl Admitted {
    /// Where the peer comes from, v4-mapped addresses folded.
    #[must_use]
    pub const fn src(&self) -> SocketAddr {
        self.src
    }
}

/// Which addresses may connect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Admission {
    allow: Ranges,
    deny: Ranges,
}

/// Why an address is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum RefuseReason {
    /// An entry of the denylist covers it, whatever the allowlist says.
    #[error("the address is on the denylist")]
    Denied,
    /// No entry of the allowlist covers it.
    #[error("the address is not on the allowlist")]
    NotAllowed,
}

impl RefuseReason {
    /// The stable word in records and metrics.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Denied => "address-denied",
            Self::NotAllowed => "address-not-allowed",
        }
    }
}

impl Admission {
    /// Admits what `allow` covers and `deny` does not. An empty `allow` admits nobody.
    ///
    /// A v4-mapped network (`::ffff:10.0.0.0/104`) means the v4 network; a wider v6 network (`::/0`) says nothing
    /// about v4 peers.
    #[must_use]
    pub fn new(allow: &[IpNet], deny: &[IpNet]) -> Self {
        Self { allow: Ranges::new(allow), deny: Ranges::new(deny) }
    }

    /// The proof that `src` may connect, or why it may not.
    pub fn admit(&self, src: SocketAddr) -> Result<Admitted, RefuseReason> {
        let src = fold(src);
        if self.deny.contains(src.ip()) {
            return Err(RefuseReason::Denied);
        }
        if !self.allow.contains(src.ip()) {
            return Err(RefuseReason::NotAllowed);
        }
        Ok(Admitted { src })
    }

    /// The networks of the allowlist, merged: what `check` prints.
    pub fn allowed(&self) -> impl Iterator<Item = IpNet> + '_ {
        self.allow.nets()
    }

    /// The networks of the denylist, merged.
    pub fn denied(&self) -> impl Iterator<Item = IpNet> + '_ {
        self.deny.nets()
    }

    /// Whether every address that `other` admits is admitted here too (denied ones are not looked at: an answer about
    /// what is written, for warnings).
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        self.deny == Ranges::default() && self.allow.covers(&other.allow)
    }

    /// Whether some address may be admitted by both, as far as the allowlists say.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.allow.overlaps(&other.allow)
    }

    /// Whether nobody can be admitted.
    #[must_use]
    pub const fn admits_nobody(&self) -> bool {
        self.allow.v4.is_empty() && self.allow.v6.is_empty()
    }
}

/// Whom caps, bans and rates count together: an IPv4 address, mapped or not, or the /64 that an IPv6 address lies in,
/// because one host owns all of it.
#[must_use]
pub const fn host(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
    }
}

/// A dual-stack listener reports v4 peers as `::ffff:a.b.c.d`; the lists speak of v4.
const fn fold(src: SocketAddr) -> SocketAddr {
    match src {
        SocketAddr::V6(v6) => match v6.ip().to_ipv4_mapped() {
            Some(v4) => SocketAddr::new(IpAddr::V4(v4), v6.port()),
            None => src,
        },
        SocketAddr::V4(_) => src,
    }
}

/// Inclusive ranges, sorted, disjoint and not adjacent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Ranges {
    v4: Vec<(u32, u32)>,
    v6: Vec<(u128, u128)>,
}

impl Ranges {
    fn new(nets: &[IpNet]) -> Self {
        let mut v4 = Vec::new();
        let mut v6 = Vec::new();
        for net in nets {
            match fold_net(*net) {
                IpNet::V4(net) => v4.push((net.network().to_bits(), net.broadcast().to_bits())),
                IpNet::V6(net) => v6.push((net.network().to_bits(), net.broadcast().to_bits())),
            }
        }
        Self { v4: merge(v4, |end| end.checked_add(1)), v6: merge(v6, |end| end.checked_add(1)) }
    }

    fn nets(&self) -> impl Iterator<Item = IpNet> + '_ {
        let v4 = self.v4.iter().flat_map(|&(start, end)| Ipv4Subnets::new(start.into(), end.into(), 0));
        let v6 = self.v6.iter().flat_map(|&(start, end)| Ipv6Subnets::new(start.into(), end.into(), 0));
        v4.map(IpNet::V4).chain(v6.map(IpNet::V6))
    }

    fn covers(&self, other: &Self) -> bool {
        // Merged ranges are maximal: what covers another lies in one of them.
        other.v4.iter().all(|theirs| self.v4.iter().any(|mine| mine.0 <= theirs.0 && theirs.1 <= mine.1))
            && other.v6.iter().all(|theirs| self.v6.iter().any(|mine| mine.0 <= theirs.0 && theirs.1 <= mine.1))
    }

    fn overlaps(&self, other: &Self) -> bool {
        other.v4.iter().any(|theirs| self.v4.iter().any(|mine| mine.0 <= theirs.1 && theirs.0 <= mine.1))
            || other.v6.iter().any(|theirs| self.v6.iter().any(|mine| mine.0 <= theirs.1 && theirs.0 <= mine.1))
    }

    fn contains(&self, ip: IpAddr) -> bool {
        match ip {
            IpAddr::V4(ip) => within(&self.v4, ip.to_bits()),
            IpAddr::V6(ip) => within(&self.v6, ip.to_bits()),
        }
    }
}

fn fold_net(net: IpNet) -> IpNet {
    if let IpNet::V6(v6) = net
        && let Some(prefix) = v6.prefix_len().checked_sub(Ipv6Net::default().max_prefix_len() - 32)
        && let Some(v4) = v6.network().to_ipv4_mapped()
        && let Ok(v4) = Ipv4Net::new(v4, prefix)
    {
        return IpNet::V4(v4);
    }
    net
}

fn merge<T: Ord + Copy>(mut ranges: Vec<(T, T)>, next: impl Fn(T) -> Option<T>) -> Vec<(T, T)> {
    ranges.sort_unstable();
    let mut merged: Vec<(T, T)> = Vec::with_capacity(ranges.len());
    for (start, end) in ranges {
        match merged.last_mut() {
            // `None`: the last range ends at the highest address and swallows whatever follows.
            Some((_, last)) if next(*last).is_none_or(|after| start <= after) => *last = end.max(*last),
            _ => merged.push((start, end)),
        }
    }
    merged
}

fn within<T: Ord + Copy>(ranges: &[(T, T)], ip: T) -> bool {
    let after = ranges.partition_point(|&(start, _)| start <= ip);
    after.checked_sub(1).and_then(|at| ranges.get(at)).is_some_and(|&(_, end)| ip <= end)
}

#[cfg(test)]
mod tests {
    use super::{Admission, RefuseReason};
    use ipnet::IpNet;
    use proptest::prelude::*;
    use std::net::{IpAddr, SocketAddr};

    fn nets(list: &[&str]) -> Vec<IpNet> {
        list.iter().map(|net| net.parse().unwrap()).collect()
    }

    fn verdict(allow: &[&str], deny: &[&str], ip: &str) -> Result<SocketAddr, RefuseReason> {
        let src = SocketAddr::new(ip.parse().unwrap(), 4711);
        Admission::new(&nets(allow), &nets(deny)).admit(src).map(|admitted| admitted.src())
    }

    #[test]
    fn only_what_the_allowlist_covers_and_the_denylist_does_not_is_admitted() {
        use RefuseReason::{Denied, NotAllowed};
        type Row = (&'static [&'static str], &'static [&'static str], &'static str, Option<RefuseReason>);
        let rows: &[Row] = &[
            (&[], &[], "127.0.0.1", Some(NotAllowed)),
            (&[], &[], "::1", Some(NotAllowed)),
            (&["10.0.0.0/8"], &[], "10.255.255.255", None),
            (&["10.0.0.0/8"], &[], "10.0.0.0", None),
            (&["10.0.0.0/8"], &[], "11.0.0.0", Some(NotAllowed)),
            (&["10.0.0.0/8"], &[], "9.255.255.255", Some(NotAllowed)),
            (&["10.0.0.0/8"], &["10.0.66.0/24"], "10.0.66.1", Some(Denied)),
            (&["10.0.0.0/8"], &["10.0.66.0/24"], "10.0.67.0", None),
            // Deny wins even over a more specific allow.
            (&["10.0.66.7/32"], &["10.0.66.0/24"], "10.0.66.7", Some(Denied)),
            (&[], &["10.0.0.0/8"], "10.0.0.1", Some(Denied)),
            (&["10.0.0.0/25", "10.0.0.128/25"], &[], "10.0.0.128", None),
            (&["10.0.0.0/24", "10.0.0.0/8"], &[], "10.9.9.9", None),
            (&["0.0.0.0/0"], &[], "255.255.255.255", None),
            (&["0.0.0.0/0", "10.0.0.0/8"], &[], "0.0.0.0", None),
            (&["0.0.0.0/0"], &[], "2001:db8::1", Some(NotAllowed)),
            (&["::/0"], &[], "2001:db8::1", None),
            (&["fd00::/8"], &["fd00:1::/32"], "fd00:1::9", Some(Denied)),
            (&["fd00::/8"], &["fd00:1::/32"], "fd00:2::9", None),
            // v4 peers of a dual-stack listener are v4 peers.
            (&["10.0.0.0/8"], &[], "::ffff:10.1.2.3", None),
            (&["10.0.0.0/8"], &["10.1.0.0/16"], "::ffff:10.1.2.3", Some(Denied)),
            (&["::/0"], &[], "::ffff:10.1.2.3", Some(NotAllowed)),
            (&["::/0"], &[], "10.1.2.3", Some(NotAllowed)),
            (&["::ffff:10.0.0.0/104"], &[], "10.1.2.3", None),
            (&["::ffff:10.0.0.0/104"], &[], "11.1.2.3", Some(NotAllowed)),
            // v4-compatible and other embeddings are not v4.
            (&["10.0.0.0/8"], &[], "::10.1.2.3", Some(NotAllowed)),
            (&["10.0.0.0/8"], &[], "64:ff9b::a01:203", Some(NotAllowed)),
        ];
        for (allow, deny, ip, expected) in rows {
            assert_eq!(verdict(allow, deny, ip).err(), *expected, "allow {allow:?} deny {deny:?} address {ip}");
        }
    }

    #[test]
    fn a_mapped_address_is_recorded_as_the_v4_it_is() {
        assert_eq!(verdict(&["10.0.0.0/8"], &[], "::ffff:10.1.2.3").unwrap(), "10.1.2.3:4711".parse().unwrap());
    }

    #[test]
    fn an_empty_allowlist_says_that_it_admits_nobody() {
        assert!(Admission::new(&[], &nets(&["10.0.0.0/8"])).admits_nobody());
        assert!(!Admission::new(&nets(&["::1/128"]), &[]).admits_nobody());
    }

    #[test]
    fn the_networks_shown_are_the_ones_that_count() {
        let shown = |allow: &[&str]| {
            Admission::new(&nets(allow), &[]).allowed().map(|net| net.to_string()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(shown(&["fd00::/8", "10.0.0.0/25", "10.0.0.128/25", "10.0.0.7/32"]), "10.0.0.0/24 fd00::/8");
        assert_eq!(shown(&["0.0.0.0/0", "::/0"]), "0.0.0.0/0 ::/0");
        assert_eq!(shown(&["10.0.0.1/32", "10.0.0.2/32"]), "10.0.0.1/32 10.0.0.2/32");
        assert_eq!(shown(&[]), "");
    }

    proptest! {
        #[test]
        fn merged_ranges_agree_with_the_networks_one_by_one(
            allow in proptest::collection::vec((any::<u32>(), 0_u8..=32), 0..12),
            deny in proptest::collection::vec((any::<u32>(), 0_u8..=32), 0..6),
            probe in any::<u32>(),
            near in any::<prop::sample::Index>(),
            step in -1_i64..=1,
        ) {
            let net = |&(bits, prefix): &(u32, u8)| {
                IpNet::new(IpAddr::V4(bits.into()), prefix).unwrap().trunc()
            };
            let (allow, deny): (Vec<_>, Vec<_>) = (allow.iter().map(net).collect(), deny.iter().map(net).collect());
            let admission = Admission::new(&allow, &deny);
            // A random address rarely meets an edge, so the neighbours of one network's ends are tried too.
            let mut probes = vec![probe];
            if !allow.is_empty()
                && let IpNet::V4(edge) = allow[near.index(allow.len())]
            {
                for end in [edge.network().to_bits(), edge.broadcast().to_bits()] {
                    probes.extend(u32::try_from(i64::from(end) + step));
                }
            }
            for bits in probes {
                let ip = IpAddr::V4(bits.into());
                let one_by_one = allow.iter().any(|n| n.contains(&ip)) && !deny.iter().any(|n| n.contains(&ip));
                prop_assert_eq!(admission.admit(SocketAddr::new(ip, 1)).is_ok(), one_by_one, "{}", ip);
            }
        }
    }
}
