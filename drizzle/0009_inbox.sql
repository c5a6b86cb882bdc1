CREATE TABLE "chat"."broadcasts" (
	"id" uuid PRIMARY KEY NOT NULL,
	"content" jsonb NOT NULL,
	"after_user_id" text DEFAULT '' NOT NULL,
	"sent" integer DEFAULT 0 NOT NULL,
	"created_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"finished_at" timestamp (3) with time zone
);
--> statement-breakpoint
ALTER TABLE "chat"."broadcasts" ENABLE ROW LEVEL SECURITY;--> statement-breakpoint
CREATE TABLE "chat"."deliveries" (
	"notification_id" uuid NOT NULL,
	"channel" text NOT NULL,
	"target" text NOT NULL,
	"user_id" text NOT NULL,
	"status" text NOT NULL,
	"attempts" integer DEFAULT 0 NOT NULL,
	"last_error" text,
	"created_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"updated_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "deliveries_notification_id_channel_target_pk" PRIMARY KEY("notification_id","channel","target")
);
--> statement-breakpoint
ALTER TABLE "chat"."deliveries" ENABLE ROW LEVEL SECURITY;--> statement-breakpoint
CREATE TABLE "chat"."inbox_heads" (
	"user_id" text PRIMARY KEY NOT NULL,
	"epoch" text NOT NULL,
	"seq" bigint DEFAULT 0 NOT NULL,
	"floor" bigint DEFAULT 0 NOT NULL,
	"unread" integer DEFAULT 0 NOT NULL,
	"connected_at" timestamp (3) with time zone,
	"last_seen_at" timestamp (3) with time zone,
	CONSTRAINT "inbox_heads_unread" CHECK (unread >= 0)
);
--> statement-breakpoint
ALTER TABLE "chat"."inbox_heads" ENABLE ROW LEVEL SECURITY;--> statement-breakpoint
CREATE TABLE "chat"."notification_preferences" (
	"user_id" text PRIMARY KEY NOT NULL,
	"channels" jsonb NOT NULL,
	"quiet_hours" jsonb,
	"email" text,
	"updated_at" timestamp (3) with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
ALTER TABLE "chat"."notification_preferences" ENABLE ROW LEVEL SECURITY;--> statement-breakpoint
CREATE TABLE "chat"."notifications" (
	"id" uuid PRIMARY KEY NOT NULL,
	"user_id" text NOT NULL,
	"seq" bigint,
	"type" text NOT NULL,
	"priority" text NOT NULL,
	"template" text,
	"title" text NOT NULL,
	"body" text NOT NULL,
	"icon" text,
	"color" text,
	"action" jsonb,
	"data" jsonb NOT NULL,
	"progress" smallint,
	"dedupe_key" text,
	"channels" text[] NOT NULL,
	"created_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"updated_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"scheduled_at" timestamp (3) with time zone,
	"appeared_at" timestamp (3) with time zone,
	"expires_at" timestamp (3) with time zone NOT NULL,
	"delivered_at" timestamp (3) with time zone,
	"read_at" timestamp (3) with time zone,
	"archived_at" timestamp (3) with time zone,
	"removed_at" timestamp (3) with time zone
);
--> statement-breakpoint
ALTER TABLE "chat"."notifications" ENABLE ROW LEVEL SECURITY;--> statement-breakpoint
CREATE TABLE "chat"."processed_events" (
	"source" text NOT NULL,
	"event_id" text NOT NULL,
	"fingerprint" text NOT NULL,
	"result" jsonb,
	"created_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "processed_events_source_event_id_pk" PRIMARY KEY("source","event_id")
);
--> statement-breakpoint
ALTER TABLE "chat"."processed_events" ENABLE ROW LEVEL SECURITY;--> statement-breakpoint
CREATE TABLE "chat"."push_subscriptions" (
	"id" uuid PRIMARY KEY NOT NULL,
	"user_id" text NOT NULL,
	"endpoint" text NOT NULL,
	"p256dh" text NOT NULL,
	"auth" text NOT NULL,
	"created_at" timestamp (3) with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
ALTER TABLE "chat"."push_subscriptions" ENABLE ROW LEVEL SECURITY;--> statement-breakpoint
CREATE TABLE "chat"."room_members" (
	"room" text NOT NULL,
	"user_id" text NOT NULL,
	"created_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "room_members_room_user_id_pk" PRIMARY KEY("room","user_id")
);
--> statement-breakpoint
ALTER TABLE "chat"."room_members" ENABLE ROW LEVEL SECURITY;--> statement-breakpoint
CREATE TABLE "chat"."webhook_targets" (
	"id" uuid PRIMARY KEY NOT NULL,
	"url" text NOT NULL,
	"secret" text NOT NULL,
	"user_id" text,
	"types" text[],
	"created_at" timestamp (3) with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
ALTER TABLE "chat"."webhook_targets" ENABLE ROW LEVEL SECURITY;--> statement-breakpoint
ALTER TABLE "chat"."tickets" ADD COLUMN "origin" text;--> statement-breakpoint
ALTER TABLE "chat"."tickets" ADD COLUMN "valid_until" timestamp (3) with time zone;--> statement-breakpoint
CREATE INDEX "deliveries_by_age" ON "chat"."deliveries" USING btree ("created_at");--> statement-breakpoint
CREATE INDEX "inbox_heads_connected" ON "chat"."inbox_heads" USING btree ("user_id") WHERE connected_at is not null;--> statement-breakpoint
CREATE UNIQUE INDEX "notifications_log" ON "chat"."notifications" USING btree ("user_id","seq");--> statement-breakpoint
CREATE UNIQUE INDEX "notifications_dedupe" ON "chat"."notifications" USING btree ("user_id","dedupe_key") WHERE dedupe_key is not null;--> statement-breakpoint
CREATE INDEX "notifications_list" ON "chat"."notifications" USING btree ("user_id","appeared_at" DESC NULLS LAST,"id" DESC NULLS LAST);--> statement-breakpoint
CREATE INDEX "notifications_due" ON "chat"."notifications" USING btree ("scheduled_at") WHERE seq is null;--> statement-breakpoint
CREATE INDEX "notifications_expiring" ON "chat"."notifications" USING btree ("expires_at") WHERE removed_at is null;--> statement-breakpoint
CREATE INDEX "notifications_removed" ON "chat"."notifications" USING btree ("removed_at") WHERE removed_at is not null;--> statement-breakpoint
CREATE INDEX "processed_events_by_age" ON "chat"."processed_events" USING btree ("created_at");--> statement-breakpoint
CREATE UNIQUE INDEX "push_subscriptions_endpoint" ON "chat"."push_subscriptions" USING btree ("endpoint");--> statement-breakpoint
CREATE INDEX "push_subscriptions_by_user" ON "chat"."push_subscriptions" USING btree ("user_id");--> statement-breakpoint
CREATE INDEX "room_members_by_user" ON "chat"."room_members" USING btree ("user_id");--> statement-breakpoint
CREATE POLICY "broadcasts_system" ON "chat"."broadcasts" AS PERMISSIVE FOR ALL TO "chat_system" USING (true) WITH CHECK (true);--> statement-breakpoint
CREATE POLICY "deliveries_system" ON "chat"."deliveries" AS PERMISSIVE FOR ALL TO "chat_system" USING (true) WITH CHECK (true);--> statement-breakpoint
CREATE POLICY "inbox_heads_caller" ON "chat"."inbox_heads" AS PERMISSIVE FOR ALL TO "chat_caller" USING (user_id = nullif(current_setting('app.current_user_id', true), '')) WITH CHECK (user_id = nullif(current_setting('app.current_user_id', true), ''));--> statement-breakpoint
CREATE POLICY "inbox_heads_system" ON "chat"."inbox_heads" AS PERMISSIVE FOR ALL TO "chat_system" USING (true) WITH CHECK (true);--> statement-breakpoint
CREATE POLICY "notification_preferences_caller" ON "chat"."notification_preferences" AS PERMISSIVE FOR ALL TO "chat_caller" USING (user_id = nullif(current_setting('app.current_user_id', true), '')) WITH CHECK (user_id = nullif(current_setting('app.current_user_id', true), ''));--> statement-breakpoint
CREATE POLICY "notification_preferences_system" ON "chat"."notification_preferences" AS PERMISSIVE FOR ALL TO "chat_system" USING (true) WITH CHECK (true);--> statement-breakpoint
CREATE POLICY "notifications_caller" ON "chat"."notifications" AS PERMISSIVE FOR ALL TO "chat_caller" USING (user_id = nullif(current_setting('app.current_user_id', true), '')) WITH CHECK (user_id = nullif(current_setting('app.current_user_id', true), ''));--> statement-breakpoint
CREATE POLICY "notifications_system" ON "chat"."notifications" AS PERMISSIVE FOR ALL TO "chat_system" USING (true) WITH CHECK (true);--> statement-breakpoint
CREATE POLICY "processed_events_system" ON "chat"."processed_events" AS PERMISSIVE FOR ALL TO "chat_system" USING (true) WITH CHECK (true);--> statement-breakpoint
CREATE POLICY "push_subscriptions_caller" ON "chat"."push_subscriptions" AS PERMISSIVE FOR ALL TO "chat_caller" USING (user_id = nullif(current_setting('app.current_user_id', true), '')) WITH CHECK (user_id = nullif(current_setting('app.current_user_id', true), ''));--> statement-breakpoint
CREATE POLICY "push_subscriptions_system" ON "chat"."push_subscriptions" AS PERMISSIVE FOR ALL TO "chat_system" USING (true) WITH CHECK (true);--> statement-breakpoint
CREATE POLICY "room_members_system" ON "chat"."room_members" AS PERMISSIVE FOR ALL TO "chat_system" USING (true) WITH CHECK (true);--> statement-breakpoint
CREATE POLICY "webhook_targets_system" ON "chat"."webhook_targets" AS PERMISSIVE FOR ALL TO "chat_system" USING (true) WITH CHECK (true);--> statement-breakpoint
ALTER TABLE "chat"."inbox_heads" FORCE ROW LEVEL SECURITY;--> statement-breakpoint
ALTER TABLE "chat"."notifications" FORCE ROW LEVEL SECURITY;--> statement-breakpoint
ALTER TABLE "chat"."deliveries" FORCE ROW LEVEL SECURITY;--> statement-breakpoint
ALTER TABLE "chat"."notification_preferences" FORCE ROW LEVEL SECURITY;--> statement-breakpoint
ALTER TABLE "chat"."push_subscriptions" FORCE ROW LEVEL SECURITY;--> statement-breakpoint
ALTER TABLE "chat"."webhook_targets" FORCE ROW LEVEL SECURITY;--> statement-breakpoint
ALTER TABLE "chat"."broadcasts" FORCE ROW LEVEL SECURITY;--> statement-breakpoint
ALTER TABLE "chat"."processed_events" FORCE ROW LEVEL SECURITY;--> statement-breakpoint
ALTER TABLE "chat"."room_members" FORCE ROW LEVEL SECURITY;--> statement-breakpoint
GRANT SELECT, INSERT, UPDATE ON "chat"."inbox_heads", "chat"."notifications", "chat"."notification_preferences" TO "chat_caller";--> statement-breakpoint
GRANT SELECT, DELETE ON "chat"."push_subscriptions" TO "chat_caller";--> statement-breakpoint
GRANT SELECT, INSERT, UPDATE, DELETE ON "chat"."inbox_heads", "chat"."notifications", "chat"."deliveries",
  "chat"."notification_preferences", "chat"."push_subscriptions", "chat"."webhook_targets", "chat"."broadcasts",
  "chat"."processed_events", "chat"."room_members" TO "chat_system";
