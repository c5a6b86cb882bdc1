CREATE TABLE "chat"."message_reactions" (
	"conversation_id" uuid NOT NULL,
	"message_id" uuid NOT NULL,
	"user_id" text NOT NULL,
	"reaction" text NOT NULL,
	"feedback" text,
	"created_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"updated_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "message_reactions_conversation_id_message_id_user_id_pk" PRIMARY KEY("conversation_id","message_id","user_id"),
	CONSTRAINT "message_reactions_reaction" CHECK (reaction in ('like', 'dislike', 'helpful', 'not_helpful'))
);
--> statement-breakpoint
ALTER TABLE "chat"."message_reactions" ENABLE ROW LEVEL SECURITY;--> statement-breakpoint
ALTER TABLE "chat"."message_reactions" ADD CONSTRAINT "message_reactions_message_fk" FOREIGN KEY ("conversation_id","message_id") REFERENCES "chat"."messages"("conversation_id","id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
CREATE POLICY "message_reactions_caller" ON "chat"."message_reactions" AS PERMISSIVE FOR ALL TO "chat_caller" USING (user_id = nullif(current_setting('app.current_user_id', true), '')) WITH CHECK (user_id = nullif(current_setting('app.current_user_id', true), ''));--> statement-breakpoint
CREATE POLICY "message_reactions_system" ON "chat"."message_reactions" AS PERMISSIVE FOR ALL TO "chat_system" USING (true) WITH CHECK (true);--> statement-breakpoint
ALTER TABLE "chat"."message_reactions" FORCE ROW LEVEL SECURITY;--> statement-breakpoint
GRANT SELECT, INSERT, UPDATE, DELETE ON "chat"."message_reactions" TO "chat_caller", "chat_system";
