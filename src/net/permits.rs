//! Caps on connections: in all, and from one address to one service.

use std::{
    collections::HashMap,
    net::IpAddr,
    num::NonZeroU32,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

/// Whom a cap counts together: an IPv4 address, or the /64 an IPv6 address lies in (one host owns all of it).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Origin {
    service: usize,
    network: IpAddr,
}

impl Origin {
    fn new(service: usize, address: IpAddr) -> Self {
        let network = match address.to_canonical() {
            IpAddr::V4(v4) => IpAddr::V4(v4),
            IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() >> 64 << 64).into()),
        };
        Self { service, network }
    }
}

/// Why a permit was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// `limits.max_connections`.
    Total,
    /// `limits.max_connections_per_address`.
    Address,
    /// `role.limits.max_connections`.
    Role,
}

impl Full {
    /// The stable word in records and metrics.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Total => "max-connections",
            Self::Address => "max-per-address",
            Self::Role => "max-per-role",
        }
    }
}

/// The counts of one process.
#[derive(Debug)]
pub struct Permits {
    total_max: AtomicU32,
    total: AtomicU32,
    /// Entries are removed at zero, so the map is never larger than the number of open connections.
    origins: Mutex<HashMap<Origin, u32>>,
    /// Connections of roles, by service; likewise.
    roles: Mutex<HashMap<(usize, Arc<str>), u32>>,
}

impl Permits {
    /// Counts up to `total_max` connections.
    #[must_use]
    pub fn new(total_max: NonZeroU32) -> Arc<Self> {
        Arc::new(Self {
            total_max: AtomicU32::new(total_max.get()),
            total: AtomicU32::new(0),
            origins: Mutex::default(),
            roles: Mutex::default(),
        })
    }

    /// A place for one connection, given back when the permit is dropped.
    ///
    /// # Errors
    ///
    /// [`Full`], and nothing is counted.
    pub fn take(
        self: &Arc<Self>,
        service: usize,
        address: IpAddr,
        per_address_max: Option<NonZeroU32>,
    ) -> Result<Permit, Full> {
        let most = self.total_max.load(Ordering::Relaxed);
        let raised = |held: u32| (held < most).then(|| held.saturating_add(1));
        if self.total.fetch_update(Ordering::Relaxed, Ordering::Relaxed, raised).is_err() {
            return Err(Full::Total);
        }
        // From here on the total is given back by the permit, whichever way this ends.
        let mut permit = Permit { permits: Arc::clone(self), origin: None };
        // Counted without a cap too: a reload may bring one.
        let origin = Origin::new(service, address);
        let mut origins = self.origins.lock().unwrap_or_else(PoisonError::into_inner);
        let held = origins.get(&origin).copied().unwrap_or(0);
        if per_address_max.is_some_and(|max| held >= max.get()) {
            return Err(Full::Address);
        }
        origins.insert(origin, held.saturating_add(1));
        permit.origin = Some(origin);
        drop(origins);
        Ok(permit)
    }

    /// Another cap from now on. Nobody is sent away who is in.
    pub fn set_total_max(&self, total_max: NonZeroU32) {
        self.total_max.store(total_max.get(), Ordering::Relaxed);
    }

    /// A place for one connection of a role, given back when it is dropped. Counted without a cap too, as addresses are.
    ///
    /// # Errors
    ///
    /// [`Full::Role`], and nothing is counted.
    pub fn take_role(
        self: &Arc<Self>,
        service: usize,
        role: &str,
        max: Option<NonZeroU32>,
    ) -> Result<RolePermit, Full> {
        let key = (service, Arc::from(role));
        let mut roles = self.roles.lock().unwrap_or_else(PoisonError::into_inner);
        let held = roles.get(&key).copied().unwrap_or(0);
        if max.is_some_and(|max| held >= max.get()) {
            return Err(Full::Role);
        }
        roles.insert(key.clone(), held.saturating_add(1));
        drop(roles);
        Ok(RolePermit { permits: Arc::clone(self), key })
    }

    /// Connections open now.
    #[must_use]
    pub fn open(&self) -> u32 {
        self.total.load(Ordering::Relaxed)
    }
}

/// The right to one open connection.
#[derive(Debug)]
pub struct Permit {
    permits: Arc<Permits>,
    /// Where it is counted besides the total.
    origin: Option<Origin>,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.permits.total.fetch_sub(1, Ordering::Relaxed);
        if let Some(origin) = self.origin {
            let mut origins = self.permits.origins.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(held) = origins.get_mut(&origin) {
                *held = held.saturating_sub(1);
                if *held == 0 {
                    origins.remove(&origin);
                }
            }
        }
    }
}

/// The right to one open connection of a role.
#[derive(Debug)]
pub struct RolePermit {
    permits: Arc<Permits>,
    key: (usize, Arc<str>),
}

impl Drop for RolePermit {
    fn drop(&mut self) {
        let mut roles = self.permits.roles.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = roles.get_mut(&self.key) {
            *held = held.saturating_sub(1);
            if *held == 0 {
                roles.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Full, Permits};
    use std::{net::IpAddr, num::NonZeroU32};

    fn max(n: u32) -> NonZeroU32 {
        NonZeroU32::new(n).unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_total_is_held_and_given_back() {
        let permits = Permits::new(max(2));
        let first = permits.take(0, ip("10.0.0.1"), None).unwrap();
        let _second = permits.take(0, ip("10.0.0.2"), None).unwrap();
        assert_eq!(permits.take(0, ip("10.0.0.3"), None).unwrap_err(), Full::Total);
        drop(first);
        assert_eq!(permits.open(), 1);
        permits.take(0, ip("10.0.0.3"), None).unwrap();
    }

    #[test]
    fn an_address_is_held_apart_per_service_and_given_back() {
        let permits = Permits::new(max(10));
        let first = permits.take(0, ip("10.0.0.1"), Some(max(1))).unwrap();
        assert_eq!(permits.take(0, ip("10.0.0.1"), Some(max(1))).unwrap_err(), Full::Address);
        assert_eq!(permits.take(0, ip("::ffff:10.0.0.1"), Some(max(1))).unwrap_err(), Full::Address);
        assert_eq!(permits.open(), 1, "a refusal counts nothing");
        let _other_service = permits.take(1, ip("10.0.0.1"), Some(max(1))).unwrap();
        drop(first);
        let _again = permits.take(0, ip("10.0.0.1"), Some(max(1))).unwrap();
        assert_eq!(permits.open(), 2);
        drop((_again, _other_service));
        assert!(permits.origins.lock().unwrap().is_empty(), "nothing is remembered of who is gone");
    }

    #[test]
    fn a_role_is_held_apart_per_service_and_given_back() {
        let permits = Permits::new(max(10));
        let first = permits.take_role(0, "app", Some(max(1))).unwrap();
        assert_eq!(permits.take_role(0, "app", Some(max(1))).unwrap_err(), Full::Role);
        let _others =
            (permits.take_role(1, "app", Some(max(1))).unwrap(), permits.take_role(0, "b", Some(max(1))).unwrap());
        // A reload that lowers the cap counts whom it finds; one that raises it lets more in.
        let second = permits.take_role(0, "app", Some(max(2))).unwrap();
        drop(first);
        assert_eq!(permits.take_role(0, "app", Some(max(1))).unwrap_err(), Full::Role);
        drop(second);
        permits.take_role(0, "app", Some(max(1))).unwrap();
        drop(_others);
        assert!(permits.roles.lock().unwrap().is_empty(), "nothing is remembered of who is gone");
    }

    #[test]
    fn an_ipv6_network_of_64_bits_is_one_address() {
        let permits = Permits::new(max(10));
        let _first = permits.take(0, ip("fd00::1"), Some(max(1))).unwrap();
        assert_eq!(permits.take(0, ip("fd00::2"), Some(max(1))).unwrap_err(), Full::Address);
        permits.take(0, ip("fd00:0:0:1::2"), Some(max(1))).unwrap();
    }
}
