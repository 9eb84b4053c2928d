//! The shutdown of the daemon.

use std::time::Duration;

use crate::harness::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn op_02_calls_in_progress_finish_and_new_ones_go_elsewhere() {
    let dir = home();
    let mut one = Broker::start_in(dir.clone(), |_| {}).await;
    let two = Broker::start_beside(dir).await;
    let clients = [one.client(&user("alice")), two.client(&user("alice"))];
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let mut callers = Vec::new();
    for _ in 0..8 {
        let (clients, stop) = (clients.clone(), stop.clone());
        callers.push(tokio::spawn(async move {
            let (mut done, mut failed) = (0, 0);
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                // A client of two brokers: the second is asked when the first cannot be reached.
                let request = brevet::client::AssumeRole::new(OPEN, "session");
                let mut ok = clients[0].assume_role(&request).await.is_ok();
                if !ok {
                    ok = clients[1].assume_role(&request).await.is_ok();
                }
                done += 1;
                failed += u32::from(!ok);
            }
            (done, failed)
        }));
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let running = one.running.take().unwrap();
    let started = std::time::Instant::now();
    running.shutdown(std::future::pending()).await;
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "idle and busy connections end within the grace"
    );
    tokio::time::sleep(Duration::from_millis(200)).await;
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    for caller in callers {
        let (done, failed) = caller.await.unwrap();
        assert!(done > 0 && failed == 0, "{failed} of {done} failed");
    }
}
