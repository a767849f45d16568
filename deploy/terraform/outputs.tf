locals {
  names  = ["flack", "flack-haproxy", "flack-etcd", "flack-nats", "flack-postgres"]
  images = join(" ", [for name in local.names : "${name}:${var.tag}"])
  start  = "cloud-init status --wait && docker load && cd /opt/flack && docker-compose up -d --no-build"
}

output "address" {
  description = "The address of the machine."
  value       = hcloud_server.chat.ipv4_address
}

output "url" {
  description = "The chat."
  value       = "http://${hcloud_server.chat.ipv4_address}/"
}

output "start" {
  description = "Copies the images (docker-compose build) to the machine, without a registry, and starts the stack."
  value       = "docker save ${local.images} | gzip | ssh root@${hcloud_server.chat.ipv4_address} '${local.start}'"
}

output "statistics" {
  description = "A tunnel to the statistics of the balancer, at http://127.0.0.1:8404/stats."
  value       = "ssh -N -L 8404:127.0.0.1:8404 root@${hcloud_server.chat.ipv4_address}"
}
