//! A cable between one browser and the balancer, which can be cut and mended: the network of somebody on a train.

use anyhow::Context as _;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
    task::AbortHandle,
};

pub struct Cable {
    port: u16,
    whole: watch::Sender<bool>,
    task: AbortHandle,
}

impl Cable {
    /// Leads to the port of `url`.
    pub async fn to(url: &str) -> anyhow::Result<Self> {
        let far_end = url.strip_prefix("http://").context("a plain address")?.to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let (whole, is_whole) = watch::channel(true);
        let task = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                // Dropped at once while cut: the browser sees a connection that breaks.
                if *is_whole.borrow() {
                    tokio::spawn(carry(near, far_end.clone(), is_whole.clone()));
                }
            }
        });
        Ok(Self { port, whole, task: task.abort_handle() })
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Breaks every connection, and every new one.
    pub fn cut(&self) {
        self.whole.send_replace(false);
    }

    pub fn mend(&self) {
        self.whole.send_replace(true);
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn carry(mut near: TcpStream, far_end: String, mut is_whole: watch::Receiver<bool>) {
    let Ok(mut far) = TcpStream::connect(far_end).await else { return };
    tokio::select! {
        // Either side may end a connection whenever it likes.
        _ = copy_bidirectional(&mut near, &mut far) => {}
        _ = is_whole.wait_for(|whole| !whole) => {}
    }
}
