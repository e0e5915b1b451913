#!/usr/bin/env python3
# A camera by GStreamer's RTSP server: camera.py PORT [digest]. Says "ready". /h264 has H.264 and Opus, /h265 H.265 and AAC, /bframes
# H.264 with B-frames. With digest it asks for cam:secret.
import signal
import sys
import gi
gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer, GstRtsp

Gst.init(None)
picture = "videotestsrc is-live=true ! video/x-raw,width=320,height=180,framerate=30/1 ! "
sound = "audiotestsrc is-live=true ! audio/x-raw,rate=48000,channels=2 ! "
h264 = "x264enc key-int-max=15 speed-preset=ultrafast "
streams = {
    "/h264": picture + h264 + "tune=zerolatency ! rtph264pay name=pay0 " + sound + "opusenc ! rtpopuspay name=pay1",
    "/bframes": picture + h264 + "bframes=2 b-adapt=false ! video/x-h264,profile=main ! rtph264pay name=pay0",
    "/h265": picture + "x265enc key-int-max=15 speed-preset=ultrafast tune=zerolatency ! rtph265pay name=pay0 "
             + sound + "avenc_aac ! rtpmp4gpay name=pay1",
}
server = GstRtspServer.RTSPServer()
server.set_address("127.0.0.1")
server.set_service(sys.argv[1])
digest = sys.argv[2:] == ["digest"]
if digest:
    auth = GstRtspServer.RTSPAuth()
    auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
    user = GstRtspServer.RTSPToken()
    user.set_string("media.factory.role", "user")
    auth.add_digest("cam", "secret", user)
    server.set_auth(auth)
for path, line in streams.items():
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch("( " + line + " )")
    if digest:
        factory.add_role_from_structure(Gst.Structure.from_string(
            "user,media.factory.access=(boolean)true,media.factory.construct=(boolean)true")[0])
    server.get_mount_points().add_factory(path, factory)
server.attach(None)
print("ready", flush=True)
loop = GLib.MainLoop()
GLib.unix_signal_add(GLib.PRIORITY_DEFAULT, signal.SIGTERM, loop.quit)
loop.run()
