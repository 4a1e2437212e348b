//! The own record: made under a lease, written when this node changes, renewed before the lease ends.
//!
//! ```text
//! none ── grant, Txn(not there: put) ──▶ held ── keep-alive, an hour before the end ──▶ held
//!                                         │ expired, deleted: made again, the same subnet
//!                                         │ another program writes it: written again, not at once
//! refused by this node's control ◀────────┘ (only one that was just made): given back
//! ```
//!
//! Nothing is deleted when the agent stops: its pods are there.

use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use ringway_cluster::EncapKind;
use ringway_cluster::flannel::{Backend, Vtep};
use ringway_cluster::source::Local;
use ringway_packet::mac::MacAddr;
use tokio::time::Instant;

use super::Own;
use super::choose::{Choice, Wish, choose};
use crate::Settings;
use crate::layout::{Attributes, Pools, Subnets};
use crate::members::{Record, Records};
use crate::rpc::messages::{Compare, DeleteRangeRequest, Op, PutRequest, TxnRequest};
use crate::rpc::{Client, RpcError};

/// How long what another program wrote over the own record is left there, after it was set right once.
const QUARREL: Duration = Duration::from_secs(10);
/// When a subnet that this node's control has refused, or that is not there, is asked for again.
const AGAIN: Duration = Duration::from_secs(60);

/// What the own record depends on.
pub(crate) struct View<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) local: &'a Local,
    pub(crate) pools: &'a Pools,
    pub(crate) previous: Option<Subnets>,
}

/// The own record and its lease.
#[derive(Default)]
pub(crate) struct Hold {
    own: Option<Own>,
    /// What it was before a new one was made, until that is in force.
    before: Option<Option<Own>>,
    /// What was written last, and when.
    written: Option<(String, Instant)>,
    /// When the lease is to be renewed; `None`: it is not known how long it has.
    renew_at: Option<Instant>,
    not_before: Option<Instant>,
    /// Whether that is because nothing is free.
    exhausted: bool,
    problem: Option<String>,
}

impl Hold {
    /// What an earlier agent held.
    pub(crate) fn new(own: Option<Own>) -> Self {
        Self {
            own,
            ..Self::default()
        }
    }

    pub(crate) fn own(&self) -> Option<&Own> {
        self.own.as_ref()
    }

    /// Why there is none, or what is wrong with it.
    pub(crate) fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    /// When something is to be done although nothing happens.
    pub(crate) fn due(&self) -> Option<Instant> {
        [self.renew_at, self.not_before].into_iter().flatten().min()
    }

    /// The connection is new: nobody knows how long the lease still has.
    pub(crate) fn connected(&mut self) {
        self.renew_at = None;
    }

    /// There is no net-conf to have a record of.
    pub(crate) fn wait_for_net_conf(&mut self) {
        self.not_before = None;
    }

    /// Sees to it that there is a record and that it says how this node is.
    pub(crate) async fn ensure(
        &mut self,
        client: &mut Client,
        records: &mut Records,
        view: &View<'_>,
    ) -> Result<(), RpcError> {
        if self.not_before.is_some_and(|at| Instant::now() < at) {
            return Ok(());
        }
        self.not_before = None;
        self.exhausted = false;
        self.problem = None;
        let addresses = &view.local.addresses;
        let Some(address) = addresses.iter().find_map(|a| match a {
            IpAddr::V4(a) => Some(*a),
            IpAddr::V6(_) => None,
        }) else {
            self.problem = Some(
                "this node has no outer IPv4 address yet, by which Flannel's records name nodes; see underlay".into(),
            );
            return Ok(());
        };
        let wish = Wish {
            own: self.own.as_ref(),
            address,
            pools: view.pools,
            previous: view.previous,
            random: RandomState::new().hash_one(0),
        };
        match choose(records, &wish) {
            Ok(Choice::Held(key)) => self.write(client, records, view, (key, address)).await,
            Ok(Choice::Free(subnets)) => self.make(client, records, view, (subnets, address)).await,
            Err(exhausted) => {
                self.problem = Some(exhausted.to_string());
                self.exhausted = true;
                self.not_before = Some(Instant::now() + AGAIN);
                Ok(())
            }
        }
    }

    /// Something has happened to the records: what was not there may be now.
    pub(crate) fn look_again(&mut self) {
        if self.exhausted {
            self.not_before = None;
        }
    }

    /// What the record says is in force on this node.
    pub(crate) fn in_force(&mut self) {
        self.before = None;
    }

    /// Gives back a record that was just made and that this node cannot use.
    pub(crate) async fn refused(
        &mut self,
        client: &mut Client,
        records: &mut Records,
        why: &str,
    ) -> Result<(), RpcError> {
        let Some(before) = self.before.take() else {
            return Ok(());
        };
        let Some(made) = std::mem::replace(&mut self.own, before) else {
            return Ok(());
        };
        self.not_before = Some(Instant::now() + AGAIN);
        self.problem = Some(format!(
            "this node cannot take {}, it was given back: {why}",
            made.key
        ));
        self.renew_at = None;
        records.remove(&made.key);
        tracing::warn!(key = made.key, why, "subnet given back");
        client.revoke(made.lease).await
    }

    /// Renews the lease if it is time, whatever else is wrong.
    pub(crate) async fn renew(
        &mut self,
        client: &mut Client,
        records: &mut Records,
        settings: &Settings,
    ) -> Result<(), RpcError> {
        if self.renew_at.is_some_and(|at| Instant::now() < at) {
            return Ok(());
        }
        self.renew_at = None;
        let Some(own) = self.own.as_ref().filter(|own| own.lease != 0) else {
            return Ok(());
        };
        if records.get(&own.key).is_none_or(|r| r.lease != own.lease) {
            return Ok(());
        }
        match client.keep_alive(own.lease).await? {
            Some(ttl) => self.renew_at = Some(renewal(settings, ttl)),
            None => {
                // The watch is about to say so.
                tracing::warn!(key = own.key, "the lease of this node's subnet has ended");
                records.remove(&own.key);
            }
        }
        Ok(())
    }

    /// Writes what this node is into a record that is there.
    async fn write(
        &mut self,
        client: &mut Client,
        records: &mut Records,
        view: &View<'_>,
        (key, address): (String, Ipv4Addr),
    ) -> Result<(), RpcError> {
        let (Some(record), Ok(subnets)) = (records.get(&key).cloned(), key.parse::<Subnets>())
        else {
            return Ok(());
        };
        let said = Attributes::parse(&record.value).ok();
        let mine = self.own.as_ref().filter(|own| own.key == key);
        let vteps = match mine {
            Some(own) => own.vteps,
            None => vteps(&subnets, said.as_ref(), view),
        };
        if !view.pools.have(&subnets) {
            self.problem = Some(format!(
                "this node's subnet {} is no longer one of the net-conf's; to get another, drain the node, stop the \
                 agent and delete the key subnets/{key}",
                subnets.v4
            ));
        }
        let wanted = attributes(&subnets, vteps, view);
        if said.as_ref() != Some(&wanted) {
            let value = wanted.write();
            let by_another = mine.is_some()
                && self
                    .written
                    .as_ref()
                    .is_some_and(|(last, _)| *last == value);
            let since = self.written.as_ref().map(|(_, at)| *at);
            if by_another
                && let Some(at) = since
                    .map(|at| at + QUARREL)
                    .filter(|at| *at > Instant::now())
            {
                self.problem = Some(format!(
                    "another program writes this node's record subnets/{key}: stop flanneld on this node"
                ));
                self.not_before = Some(at);
                return Ok(());
            }
            let full = format!("{}{key}", view.settings.subnets_key());
            let put = PutRequest {
                key: full.clone().into_bytes(),
                value: value.clone().into_bytes(),
                lease: record.lease,
            };
            let request = TxnRequest {
                compare: vec![Compare::unchanged(full.as_bytes(), record.modified)],
                success: vec![Op::Put(put).into()],
            };
            let answer = client.txn(request).await?;
            if !answer.succeeded {
                // It has changed since; the watch says how.
                return Ok(());
            }
            self.written = Some((value.clone(), Instant::now()));
            let modified = answer.header.map_or(record.modified, |h| h.revision);
            let new = Record {
                value,
                modified,
                ..record
            };
            records.insert(key.clone(), new);
        }
        let own = Own {
            key,
            lease: record.lease,
            address,
            vteps,
        };
        if self.own.as_ref().map(|o| &o.key) != Some(&own.key) {
            tracing::info!(
                key = own.key,
                "this node's subnet, as the record with its address says"
            );
        }
        if self.own.as_ref().map(|o| o.lease) != Some(own.lease) {
            self.renew_at = None;
        }
        self.own = Some(own);
        if self.renew_at.is_none() {
            self.renew(client, records, view.settings).await?;
        }
        Ok(())
    }

    /// Makes a record.
    async fn make(
        &mut self,
        client: &mut Client,
        records: &mut Records,
        view: &View<'_>,
        (subnets, address): (Subnets, Ipv4Addr),
    ) -> Result<(), RpcError> {
        let key = subnets.to_string();
        let full = format!("{}{key}", view.settings.subnets_key());
        let mine = self.own.as_ref().filter(|own| own.key == key);
        let vteps = mine.map_or_else(|| vteps(&subnets, None, view), |own| own.vteps);
        let value = attributes(&subnets, vteps, view).write();
        let (lease, ttl) = client.grant(view.settings.lease).await?;
        let put = PutRequest {
            key: full.clone().into_bytes(),
            value: value.clone().into_bytes(),
            lease,
        };
        let request = TxnRequest {
            compare: vec![Compare::absent(full.as_bytes())],
            success: vec![Op::Put(put).into()],
        };
        let answer = match client.txn(request).await {
            Ok(answer) if answer.succeeded => answer,
            failed => {
                // Somebody was faster, and the watch is about to say so; or it was refused.
                let _ = client.revoke(lease).await;
                self.not_before = Some(Instant::now() + Duration::from_millis(100));
                return failed.map(drop);
            }
        };
        let revision = answer.header.map_or(0, |h| h.revision);
        let record = Record {
            value: value.clone(),
            created: revision,
            modified: revision,
            lease,
        };
        records.insert(key.clone(), record);
        for old in outgrown(records, address, view) {
            delete(client, view.settings, old).await?;
        }
        tracing::info!(key, lease_s = ttl.as_secs(), "subnet leased");
        self.written = Some((value, Instant::now()));
        self.renew_at = Some(renewal(view.settings, ttl));
        let own = Own {
            key,
            lease,
            address,
            vteps,
        };
        if self.own.as_ref().is_none_or(|before| before.key != own.key) {
            self.before = Some(self.own.take());
        }
        self.own = Some(own);
        Ok(())
    }
}

/// Records with this node's address that the net-conf has no place for any more; only of a node that is new.
fn outgrown(records: &Records, address: Ipv4Addr, view: &View<'_>) -> Vec<(String, i64)> {
    let names_us = |record: &Record| {
        Attributes::parse(&record.value).is_ok_and(|a| a.public_ip == Some(address))
    };
    let out = |key: &str| key.parse::<Subnets>().is_ok_and(|s| !view.pools.have(&s));
    let all = records
        .iter()
        .filter(|(key, record)| out(key) && names_us(record));
    all.map(|(key, record)| (key.clone(), record.modified))
        .collect()
}

/// When a lease that has this long is to be renewed.
fn renewal(settings: &Settings, ttl: Duration) -> Instant {
    Instant::now() + ttl.saturating_sub(settings.renew_before).max(ttl / 3)
}

/// Deletes a record that nobody has written since.
async fn delete(
    client: &mut Client,
    settings: &Settings,
    (key, modified): (String, i64),
) -> Result<(), RpcError> {
    let key = format!("{}{key}", settings.subnets_key()).into_bytes();
    let request = TxnRequest {
        compare: vec![Compare::unchanged(&key, modified)],
        success: vec![Op::Delete(DeleteRangeRequest { key }).into()],
    };
    client.txn(request).await.map(drop)
}

/// MACs of this node's VTEPs: those that flanneld had here, so that nobody's neighbour entries change.
fn vteps(subnets: &Subnets, said: Option<&Attributes>, view: &View<'_>) -> [MacAddr; 2] {
    let usual = (view.settings.vtep_default)(&subnets.all());
    match said.map(|said| &said.backend) {
        Some(Backend::Vxlan { v4, v6 }) => [v4, v6].map(|vtep| vtep.map_or(usual, |v| v.mac)),
        _ => [usual; 2],
    }
}

fn attributes(subnets: &Subnets, vteps: [MacAddr; 2], view: &View<'_>) -> Attributes {
    let Local {
        addresses,
        encap,
        vni,
        ..
    } = view.local;
    let public_ip = addresses.iter().find_map(|a| match a {
        IpAddr::V4(a) => Some(*a),
        IpAddr::V6(_) => None,
    });
    let public_ipv6 = addresses.iter().find_map(|a| match a {
        IpAddr::V6(a) if subnets.v6.is_some() => Some(*a),
        _ => None,
    });
    let [v4, v6] = vteps.map(|mac| Vtep { vni: *vni, mac });
    let backend = match encap {
        EncapKind::Vxlan => Backend::Vxlan {
            v4: Some(v4),
            // Flannel reaches IPv6 pods over IPv6 alone.
            v6: public_ipv6.map(|_| v6),
        },
        EncapKind::Udp => Backend::Udp,
    };
    Attributes {
        public_ip,
        public_ipv6,
        backend,
    }
}
