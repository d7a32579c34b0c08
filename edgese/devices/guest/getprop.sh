#!/bin/busybox sh
# Answers for Android's getprop, as far as a machine without Android can.
device=$(sed -n 's/.*edgese.device=\([^ ]*\).*/\1/p' /proc/cmdline)
properties="ro.product.model=$device
ro.product.manufacturer=QEMU
ro.product.cpu.abi=arm64-v8a
ro.kernel.qemu=1"
if [ $# -eq 0 ]; then
    echo "$properties" | sed 's/^\([^=]*\)=\(.*\)$/[\1]: [\2]/'
else
    echo "$properties" | sed -n "s/^$1=//p"
fi
