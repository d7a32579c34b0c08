#!/bin/busybox sh
# The first process of the emulated machine: network, then adbd, then it waits.
export PATH=/bin:/sbin:/usr/bin:/usr/sbin
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts
mount -t devpts devpts /dev/pts
for module in /modules/*.ko; do insmod "$module"; done
ip link set lo up
ip link set eth0 up
# What QEMU's own network gives its first machine; there is no way out of it.
ip addr add 10.0.2.15/24 dev eth0
export LD_LIBRARY_PATH=/usr/lib/aarch64-linux-gnu/android
ADBD_PORT=5555 /usr/lib/android-sdk/platform-tools/adbd >/run/adbd.log 2>&1 &
# 15B3 is port 5555.
until grep -q ':15B3 ' /proc/net/tcp /proc/net/tcp6 2>/dev/null; do sleep 0.1; done
echo EDGESE-GUEST-IS-READY
while true; do wait; sleep 1000000; done
