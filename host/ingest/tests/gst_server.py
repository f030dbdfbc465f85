"""An RTSP server that this project did not write: GStreamer's, for the interoperability test.

Usage: gst_server.py H264.mp4 H265.mp4
Prints `ready PORT` once it listens on 127.0.0.1, and serves until its standard input ends:
/h264, /h265  the clips, once from the beginning for each client
/mjpeg        a test picture, 320x240, 25 a second, for ever
/av           sound before the same picture, so that the video is not the first stream
/secret       the picture for user `admin` with password `pass word`, asked for by digest
Exits with 77 where GStreamer or one of its parts is missing.
"""

import sys
import threading

try:
    import gi

    gi.require_version("Gst", "1.0")
    gi.require_version("GstRtsp", "1.0")
    gi.require_version("GstRtspServer", "1.0")
    from gi.repository import GLib, Gst, GstRtsp, GstRtspServer
except (ImportError, ValueError) as error:
    print(f"missing: {error}", flush=True)
    sys.exit(77)

PICTURE = (
    "videotestsrc is-live=true pattern=ball ! video/x-raw,format=I420,width=320,height=240,framerate=25/1 "
    "! jpegenc ! rtpjpegpay pt=26"
)
SOUND = "audiotestsrc is-live=true ! audio/x-raw,rate=8000,channels=1 ! mulawenc ! rtppcmupay pt=0"


def main(h264, h265):
    Gst.init(None)
    elements = "qtdemux h264parse h265parse rtph264pay rtph265pay rtpjpegpay rtppcmupay jpegenc mulawenc videotestsrc rtpbin"
    for element in elements.split():
        if Gst.ElementFactory.find(element) is None:
            print(f"missing: GStreamer element {element}", flush=True)
            sys.exit(77)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service("0")
    server.set_auth(digest("admin", "pass word"))
    mounts = server.get_mount_points()
    clip = "( filesrc location=\"{}\" ! qtdemux ! {} name=pay0 pt=96 config-interval=-1 )"
    for path, launch, role in (
        ("/h264", clip.format(h264, "h264parse ! rtph264pay"), "anyone"),
        ("/h265", clip.format(h265, "h265parse ! rtph265pay"), "anyone"),
        ("/mjpeg", f"( {PICTURE} name=pay0 )", "anyone"),
        ("/av", f"( {SOUND} name=pay0 {PICTURE} name=pay1 )", "anyone"),
        ("/secret", f"( {PICTURE} name=pay0 )", "viewer"),
    ):
        factory = GstRtspServer.RTSPMediaFactory()
        factory.set_launch(launch)
        permissions = GstRtspServer.RTSPPermissions()
        for name in ("anyone", "viewer"):
            allowed = name == role or role == "anyone"
            permissions.add_permission_for_role(name, "media.factory.access", True)
            permissions.add_permission_for_role(name, "media.factory.construct", allowed)
        factory.set_permissions(permissions)
        mounts.add_factory(path, factory)
    server.attach(None)
    loop = GLib.MainLoop()
    threading.Thread(target=lambda: (sys.stdin.read(), loop.quit()), daemon=True).start()
    print(f"ready {server.get_bound_port()}", flush=True)
    loop.run()


def digest(user, password):
    auth = GstRtspServer.RTSPAuth()
    auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
    auth.set_default_token(token("anyone"))
    auth.add_digest(user, password, token("viewer"))
    return auth


def token(role):
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", role)
    return token


if __name__ == "__main__":
    main(*sys.argv[1:])
