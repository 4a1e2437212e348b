#!/usr/bin/env bash
# One mutation for each stage of the packet path: mutations.sh [check]
#
# Takes a stage out of the code that a node runs, and has the tests that watch
# over it run: they must fail. A mutant that does not compile, one that
# survives, and a mutation that finds no place any more are failures. "check"
# only looks whether each still finds its place: exactly one.
#
# A copy of the tree, under target/mutations, is changed; yours is not. All
# mutants share a target folder of their own. No test here needs root.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

only_check=${1:-}
[[ $only_check = "" || $only_check = check ]] || die "unknown argument \"$only_check\"" "usage: scripts/mutations.sh [check]"
copy=$target_dir/mutations/tree
log=$target_dir/mutations/log
# What mutants are made from; the checkout may change meanwhile.
tree=$root_dir
killed=0 wrong=()

# Stage, the package and test program that must notice, file, code, and what stands in its place.
mutations() {
    local p=switch/src/pipeline.rs open=switch/src/arrivals/open.rs arrivals=switch/src/arrivals/mod.rs

    mutate "entry from_port" "switch every_reason" $p 'self.cx.now = now;
        sink.step(|| Step::FromPort(port));' 'if packet.len > 0 { return Verdict::Answered; }
        sink.step(|| Step::FromPort(port));'
    mutate "entry from_datagrams" "switch arrivals" $p 'arrivals.enter_message(snapshot, buffers, &message, options);' 'let _ = (snapshot, &buffers, message, options);'
    mutate "entry from_frames" "switch every_reason" $p 'arrivals.enter_frame(snapshot, self.ports, buffers, &frame, options);' 'let _ = (snapshot, &buffers, frame, options);'

    mutate "open: peer by outer source" "switch every_reason" $open 'inner.peer.ok_or(Fate::Unopened(DropReason::UnknownPeer))?' 'inner.peer.unwrap_or_default()'
    mutate "open: tunnel header" "switch every_reason" $open 'tunnel_header(snapshot, encap, payload).map_err(Fate::Unopened)?;' ''
    mutate "open: parse" "switch every_reason" $open 'if let Err(error) = result {' 'if let (Err(error), false) = (result, true) {'
    mutate "open: outer checksum" "switch every_reason" $open 'outer::verify(outer, payload, unfinished, sum) {' 'outer::verify(outer, payload, unfinished, sum).or(Ok::<(), DropReason>(())) {'
    mutate "coalescing: inner checksum" "switch arrivals" $arrivals 'inner.offload.checksum != Checksum::Complete;' 'true;'
    mutate "coalescing: bytes put back" "switch arrivals" $arrivals 'buffers.bytes_mut(buf)[at..at + ETHERNET].copy_from_slice(&bytes);' 'let _ = (&buffers, buf, at, bytes);'
    mutate "admit: peer" "switch every_reason" switch/src/admit.rs 'Err(DropReason::ForeignInnerSource)' 'Ok(Origin::PeerNode)'
    mutate "coalescing" "switch arrivals" $arrivals 'if options.coalesce && (' 'if false && ('
    mutate "congestion mark" "switch arrivals" switch/src/arrivals/congestion.rs 'if marked != parsed.tos & ecn::MASK {' 'if false {'

    mutate "parse" "switch every_reason" $p '.map_err(|e| reason_of(&e))?;' '.map_err(|_| DropReason::MalformedEthernet)?;'
    mutate "admit: priority tag" "switch priority" $p 'if parsed.vlan_tags > 0 {' 'if false {'
    mutate "admit: port" "switch every_reason" $p 'if entry.kind == PortKind::Pod {' 'if false {'
    mutate "admit: offload" "switch every_reason" $p 'admit::offload(&packet.offload, parsed)?;' ''
    mutate "neighbour" "switch flows" $p 'if neighbour::concerns(packet.head(), parsed) {' 'if false {'
    mutate "look up: address" "switch flows" switch/src/lookup.rs 'L3::Ipv4 => snapshot.routes4.lookup(parsed.dst4()),' 'L3::Ipv4 => None,'
    mutate "decide: switch" "switch flows" $p 'if frame.head()[..6] != snapshot.node.gateway_mac.0 {' 'if false {'
    mutate "decide: martian" "switch every_reason" switch/src/decide.rs 'if is_martian(target, frame) {' 'if false {'
    mutate "decide: size" "switch flows" switch/src/decide.rs 'if size <= usize::from(path.mtu) {' 'if true {'
    mutate "decide: TTL" "switch every_reason" switch/src/decide.rs 'if ttl <= 1 {' 'if false {'
    mutate "ICMP errors" "switch every_reason" $p 'if let Some(problem) = refusal.icmp {' 'if let (Some(problem), false) = (refusal.icmp, true) {'
    mutate "judge" "switch returns" $p 'let decision = judge::judge(cx, snapshot, frame, decision, sink);' 'let _ = (cx, sink);'
    mutate "rewrite: TTL" "switch flows" switch/src/rewrite.rs 'fn hop(frame: &mut Frame<'"'_, '_"'>) {' 'fn hop(frame: &mut Frame<'"'_, '_"'>) {
    if true { return; }'
    mutate "rewrite: MACs" "switch flows" switch/src/rewrite.rs 'macs[..6].copy_from_slice(&to);
    macs[6..].copy_from_slice(&from);' 'let _ = (macs, to, from);'
    mutate "rewrite: checksum" "switch flows" switch/src/rewrite.rs 'complete_checksum(packet.head_mut(), start, offset)' 'complete_checksum(&mut packet.head_mut().to_vec(), start, offset)'
    mutate "verdict: received" "switch every_reason" $p 'counters.received.add(packet.packets);' ''
    mutate "verdict: by verdict" "switch every_reason" $p 'counters.account(verdict, packet.packets, from.map(|(side, _)| side));' ''
    mutate "verdict: port" "switch every_reason" $p 'side.rx.add(packet.packets, bytes);' 'let _ = (side, bytes);'

    mutate "worker: from_port" "worker lib" worker/src/visit/tap.rs 'self.frame(i);' 'let _ = i;'
    mutate "worker: from_frames" "worker lib" worker/src/visit/ring.rs 'scratch.frames(self.snapshot, self.pipeline, pool, received, options);' 'let _ = (scratch, options);'
    mutate "worker: from_datagrams" "worker lib" worker/src/visit/socket.rs 'scratch.datagrams(self.snapshot, self.pipeline, pool, encap, options);' 'let _ = (encap, options);'
    mutate "transmit: whole" "worker lib" worker/src/transmit/mod.rs 'let sent = carrier.whole(out);' 'let sent = Ok(());'
    mutate "transmit: segments" "worker lib" worker/src/transmit/mod.rs '_ => segments(carrier, out),' '_ => Ok(()),'
    mutate "transmit: fragments" "worker lib" worker/src/transmit/mod.rs 'Gso::None => fragments(carrier, out, frame).map_err(|reason| Loss::of(frame, reason)),' 'Gso::None => Ok(()),'
    mutate "transmit: losses" "worker shaper" worker/src/local_ports.rs 'counters.lose(reason, packets, Some(counters.port(to)));' 'let _ = (packets, reason);'
    mutate "observe: verdict" "worker lib" worker/src/visit/carry_out.rs 'self.watch.verdict(&Observed {
                entry,' 'let _ = (&Observed {
                entry,'
    mutate "observe: outer, socket" "worker lib" worker/src/transmit/socket.rs 'observe(self.watch, out, src_port, &[&room[skip..], payload]);' 'let _ = src_port;'
    mutate "observe: outer, ring" "worker lib" worker/src/transmit/ring.rs 'self.watch.outer(&Outer {' 'let _ = (&Outer {'
}

mutate() {
    local stage=$1 package test file=$3 from=$4 to=$5 code rest begin=$SECONDS
    read -r package test <<<"$2"
    code=$(cat "$tree/$file")
    rest=${code#*"$from"}
    if [[ $rest = "$code" || $rest = *"$from"* ]]; then
        wrong+=("$stage: its code stands no longer exactly once in $file: correct it in scripts/mutations.sh")
        return
    fi
    [ "$only_check" = "" ] || return 0
    code=${code%%"$from"*}$to$rest
    printf '%s\n' "$code" >"$copy/$file"
    local kind=(--test "$test") what=killed
    [ "$test" != lib ] || kind=(--lib)
    if ! try --no-run "${kind[@]}"; then
        what="DOES NOT COMPILE"
    elif try "${kind[@]}"; then
        what=SURVIVED
    fi
    cp "$tree/$file" "$copy/$file"
    [ "$what" = killed ] && killed=$((killed + 1)) || wrong+=("$stage: $what ($file, ringway-$package $test)")
    printf '%-28s %-22s %-17s %3d s\n' "$stage" "$package $test" "$what" $((SECONDS - begin))
}

try() { # arguments of cargo test, for the package at hand
    (cd "$copy" && CARGO_TARGET_DIR=$target_dir/mutations/target CARGO_INCREMENTAL=0 \
        run_cargo test --locked --quiet -p "ringway-$package" "$@") </dev/null >"$log" 2>&1
}

if [ "$only_check" = "" ]; then
    rm -rf "$copy"
    as_caller mkdir -p "$copy"
    git ls-files -z | xargs -0 cp --parents -t "$copy"
    tree=$target_dir/mutations/original
    rm -rf "$tree"
    cp -r "$copy" "$tree"
fi
mutations
if [ ${#wrong[@]} -gt 0 ]; then
    printf 'wrong: %s\n' "${wrong[@]}"
    exit 1
fi
[ "$only_check" != "" ] || say "$killed mutants, all killed"
