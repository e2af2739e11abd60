//! Each rule of attribution.

use super::{World, address, delta, one, socket, who};
use crate::lineage::tests::{cut, exec, key};
use crate::model::{
    Attribution as Quality, Direction, Event, Exec, FlowDelta, Origin, ProcessKey, Reason, Scope,
    SocketOwner, Text, Transport,
};

#[test]
fn a_claimed_flow_is_exact_and_has_everything() {
    let mut world = World::new();
    let flow = one(world.flow(delta(1, Some(2))));
    assert_eq!(who(&flow), (Some(2), Quality::Exact));
    assert_eq!(flow.job.as_ref().unwrap().executable, Text::from("/bin/2"));
    assert_eq!(flow.destination.as_ref().unwrap().scope, Scope::Public);
    assert_eq!(world.ledger(Reason::Kernel), (100, 0, 0));
}

#[test]
fn a_second_process_on_a_socket_has_inherited_it() {
    let mut world = World::new();
    let same = |id, owner| FlowDelta {
        cookie: 7,
        ..delta(id, Some(owner))
    };
    assert_eq!(one(world.flow(same(1, 2))).attribution, Quality::Exact);
    assert_eq!(one(world.flow(same(2, 3))).attribution, Quality::Inherited);
    assert_eq!(one(world.flow(same(1, 2))).attribution, Quality::Exact);
    // Without a cookie sockets cannot be told apart.
    let none = |id, owner| FlowDelta {
        cookie: 0,
        ..delta(id, Some(owner))
    };
    assert_eq!(one(world.flow(none(3, 2))).attribution, Quality::Exact);
    assert_eq!(one(world.flow(none(4, 3))).attribution, Quality::Exact);
}

#[test]
fn a_socket_from_before_us_is_exact_only_for_its_one_holder() {
    let mut world = World::new();
    world.held_before(socket(1, 2, 1));
    world.held_before(socket(2, 2, 1));
    world.held_before(socket(3, 2, 2));
    let of = |cookie, owner| FlowDelta {
        cookie,
        ..delta(cookie * 10 + u64::from(owner), Some(owner))
    };
    assert_eq!(
        one(world.flow(of(1, 2))).attribution,
        Quality::Exact,
        "by whichever key"
    );
    assert_eq!(one(world.flow(of(2, 3))).attribution, Quality::Inherited);
    assert_eq!(one(world.flow(of(3, 2))).attribution, Quality::Inherited);
}

#[test]
fn what_the_kernel_told_of_a_socket_is_better_than_the_diagnostics() {
    let mut world = World::new();
    one(world.flow(FlowDelta {
        cookie: 9,
        ..delta(1, Some(2))
    }));
    world.held_before(socket(9, 3, 1));
    assert_eq!(
        one(world.flow(FlowDelta {
            cookie: 9,
            ..delta(1, Some(2))
        }))
        .attribution,
        Quality::Exact
    );
}

#[test]
fn an_unclaimed_flow_of_a_known_socket_is_its_user_s() {
    let mut world = World::new();
    world.held_before(socket(7, 2, 1));
    world.flow(FlowDelta {
        cookie: 7,
        ..delta(1, None)
    });
    assert_eq!(who(&one(world.wait(1))), (Some(2), Quality::Inferred));
    // Another flow of a socket that was used: a new destination of a UDP socket.
    one(world.flow(FlowDelta {
        cookie: 8,
        ..delta(2, Some(3))
    }));
    world.flow(FlowDelta {
        cookie: 8,
        ..delta(3, None)
    });
    assert_eq!(who(&one(world.wait(1))), (Some(3), Quality::Inferred));
    // No cookie is no socket.
    one(world.flow(FlowDelta {
        cookie: 0,
        ..delta(4, Some(3))
    }));
    world.flow(FlowDelta {
        cookie: 0,
        remote: None,
        ..delta(5, None)
    });
    assert_eq!(who(&one(world.wait(1))).0, None);
}

#[test]
fn who_began_a_connection_from_before_us_is_known_by_who_listens() {
    let mut world = World::new();
    world.held_before(socket(7, 2, 1));
    world.held_before(socket(8, 2, 1));
    let listener = SocketOwner {
        listening: true,
        local: address("0.0.0.0:80"),
        ..socket(50, 2, 1)
    };
    world.held_before(listener);
    let mut placed = |id, cookie, port, direction| {
        let flow = one(world.flow(FlowDelta {
            cookie,
            local: Some(address(port)),
            direction,
            ..delta(id, Some(2))
        }));
        flow.delta.direction
    };
    let (client, server) = ("192.0.2.1:40000", "192.0.2.1:80");
    // First to speak since is not who began.
    let (sent, received) = (Direction::Initiated, Direction::Accepted);
    assert_eq!(placed(1, 7, server, sent), Direction::Accepted);
    assert_eq!(placed(2, 8, client, received), Direction::Initiated);
    // What the kernel saw begin needs no guess.
    assert_eq!(placed(3, 9, server, sent), Direction::Initiated);
}

#[test]
fn virtual_sockets_have_a_scope_and_no_destination() {
    let mut world = World::new();
    let flow = one(world.flow(FlowDelta {
        remote: None,
        local: None,
        family: 40,
        transport: Transport::VSOCK,
        ..delta(1, Some(2))
    }));
    assert_eq!((flow.scope(), &flow.destination), (Some(&Scope::Vm), &None));
    assert_eq!(who(&flow), (Some(2), Quality::Exact));
    let flow = one(world.flow(delta(2, Some(2))));
    assert_eq!(flow.scope(), Some(&Scope::Public));
}

#[test]
fn an_accepted_connection_without_io_is_its_listener_s() {
    let mut world = World::new();
    let listener = SocketOwner {
        listening: true,
        local: address("0.0.0.0:80"),
        ..socket(50, 2, 1)
    };
    world.held_before(listener);
    let local = Some(address("192.0.2.1:80"));
    let accepted = |id| FlowDelta {
        local,
        direction: Direction::Accepted,
        ..delta(id, None)
    };
    let mut placed = |delta| {
        world.flow(delta);
        who(&one(world.wait(1)))
    };
    assert_eq!(placed(accepted(1)), (Some(2), Quality::Inferred));
    assert_eq!(
        placed(FlowDelta {
            direction: Direction::Unknown,
            ..accepted(2)
        })
        .0,
        Some(2)
    );
    assert_eq!(
        placed(FlowDelta {
            direction: Direction::Initiated,
            ..accepted(3)
        })
        .0,
        None
    );
    assert_eq!(
        placed(FlowDelta {
            netns: 2,
            ..accepted(4)
        })
        .0,
        None
    );
    assert_eq!(
        placed(FlowDelta {
            transport: Transport::UDP,
            ..accepted(5)
        })
        .0,
        None
    );
    // A listener of our own time.
    let listening = FlowDelta {
        local: Some(address("[::]:81")),
        remote: None,
        direction: Direction::Listening,
        ..delta(6, Some(3))
    };
    assert_eq!(
        one(world.flow(listening.clone())).attribution,
        Quality::Exact
    );
    let accepted = |id| FlowDelta {
        local: Some(address("192.0.2.1:81")),
        direction: Direction::Accepted,
        ..delta(id, None)
    };
    world.flow(accepted(7));
    assert_eq!(who(&one(world.wait(1))), (Some(3), Quality::Inferred));
    // It ends: whatever comes to that port now is not its.
    world.tell(Event::Exit {
        process: key(3),
        code: 0,
    });
    world.flow(accepted(8));
    assert_eq!(who(&one(world.wait(1))).0, None);
}

#[test]
fn the_kernel_answers_for_a_closed_connection_until_a_minute_later() {
    let mut world = World::new();
    one(world.flow(FlowDelta {
        closed: Some(5),
        ..delta(1, Some(2))
    }));
    // Through a socket of its own, in v4-mapped notation.
    let answer = |id| FlowDelta {
        cookie: 99,
        local: Some(address("[::ffff:192.0.2.1]:40000")),
        direction: Direction::Unknown,
        ..delta(id, None)
    };
    world.flow(answer(2));
    assert_eq!(who(&one(world.wait(1))), (Some(2), Quality::Inferred));
    world.flow(FlowDelta {
        remote: Some(address("198.51.100.8:443")),
        cookie: 98,
        ..answer(3)
    });
    assert_eq!(who(&one(world.wait(1))).0, None);
    world.flow(FlowDelta {
        netns: 2,
        cookie: 97,
        ..answer(4)
    });
    assert_eq!(who(&one(world.wait(1))).0, None);
    world.wait(60);
    world.flow(FlowDelta {
        cookie: 96,
        ..answer(5)
    });
    assert_eq!(who(&one(world.wait(1))).0, None);
    assert_eq!(world.attribution.stats().closed, 0);
}

#[test]
fn the_answer_may_be_told_before_the_close() {
    let mut world = World::new();
    one(world.flow(delta(1, Some(2))));
    world.flow(FlowDelta {
        cookie: 99,
        direction: Direction::Unknown,
        ..delta(2, None)
    });
    one(world.flow(FlowDelta {
        closed: Some(5),
        ..delta(1, Some(2))
    }));
    assert_eq!(who(&one(world.wait(1))), (Some(2), Quality::Inferred));
}

#[test]
fn nobody_s_sockets_from_before_us() {
    let mut world = World::new();
    let old = |id| FlowDelta {
        first: 1,
        ..delta(id, None)
    };
    let mut reason = |delta| {
        world.flow(delta);
        one(world.wait(1)).attribution
    };
    assert_eq!(reason(old(1)), Quality::None(Reason::BeforeStart));
    assert_eq!(
        reason(FlowDelta {
            transport: Transport::UDP,
            ..old(2)
        }),
        Quality::None(Reason::BeforeStart)
    );
    assert_eq!(
        reason(FlowDelta {
            transport: Transport::ICMP,
            ..old(3)
        }),
        Quality::None(Reason::Kernel)
    );
    assert_eq!(reason(delta(4, None)), Quality::None(Reason::Kernel));
    // The diagnostics knew the socket, but nobody who holds it.
    world.held_before(SocketOwner {
        process: ProcessKey::default(),
        ..socket(70, 0, 0)
    });
    world.flow(FlowDelta {
        cookie: 70,
        ..delta(5, None)
    });
    assert_eq!(
        one(world.wait(1)).attribution,
        Quality::None(Reason::BeforeStart)
    );
    assert_eq!(world.ledger(Reason::BeforeStart), (0, 0, 300));
}

#[test]
fn an_owner_without_records_is_made_from_the_flow() {
    let mut world = World::new();
    let flow = one(world.flow(delta(1, Some(77))));
    let process = flow.process.as_ref().unwrap();
    assert_eq!(
        (
            process.key,
            process.name.to_string().as_str(),
            process.identity.uid
        ),
        (key(77), "comm", 33)
    );
    assert_eq!(flow.attribution, Quality::Exact);
    assert!(flow.job.is_some());
    // Also one that only the diagnostics know, by the key of /proc.
    world.held_before(socket(5, 88, 1));
    world.flow(FlowDelta {
        cookie: 5,
        ..delta(2, None)
    });
    assert_eq!(who(&one(world.wait(1))), (Some(88), Quality::Inferred));
    assert_eq!(
        one(world.flow(FlowDelta {
            cookie: 5,
            ..delta(2, Some(88))
        }))
        .attribution,
        Quality::Exact
    );
    world.tell(Event::Exec(Box::new(Exec {
        origin: Origin::Kernel,
        exec_id: None,
        ..exec(88, "/bin/88", &[])
    })));
    assert_eq!(
        world.lineage.process(cut(key(88))).unwrap().executable.path,
        Text::from("/bin/88")
    );
}

#[test]
fn a_flow_without_address_has_no_destination() {
    let mut world = World::new();
    assert!(
        one(world.flow(FlowDelta {
            remote: None,
            ..delta(1, Some(2))
        }))
        .destination
        .is_none()
    );
    let nowhere = FlowDelta {
        remote: Some(address("0.0.0.0:0")),
        ..delta(2, Some(2))
    };
    assert!(one(world.flow(nowhere)).destination.is_none());
}
